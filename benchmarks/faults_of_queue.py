"""Faults of the queue: its dispatchers, their clocks, its database, its clients."""

from __future__ import annotations

import json
import secrets
import signal
import sys
import time
import urllib.request
from pathlib import Path

from fault_helpers import FaultStack, Queue, own_dispatcher, wait_until
from fault_registry import DONE, LEASE, fault, small_disk, without_queue

from adjobs.queue.states import JobState


def die_at(stack: FaultStack, moment: str) -> str:
    """A dispatcher dies around the submission; the same one, started again, goes on."""
    with without_queue(stack) as queue:
        with own_dispatcher(queue, "--die", moment) as dispatcher:
            job = queue.submit()
            wait_until(lambda: dispatcher.poll() is not None, "the dispatcher dies")
            state = queue.get(job).state
        with own_dispatcher(queue):
            queue.wait_for_end([job])
    return f"{state} when it died; {queue.outcome([job])}"


@fault("claim", "dispatcher kill -9 between claim and submission, then started again", f"attempt 1, {DONE}")
def dispatcher_before(stack: FaultStack) -> str:
    """It has claimed the job, and Ray does not know it."""
    return die_at(stack, "before-submit")


@fault("submit", "dispatcher kill -9 right after the submission, then started again", f"attempt 1, {DONE}")
def dispatcher_after(stack: FaultStack) -> str:
    """Ray knows the job, and nobody has recorded that."""
    return die_at(stack, "after-submit")


@fault("follow", "dispatcher kill -9 while the job trains, then `adjobs up`", f"attempt 1, {DONE}")
def dispatcher_following(stack: FaultStack) -> str:
    """The service itself."""
    queue = Queue(stack)
    job = queue.submit()
    queue.wait_for_training(job)
    stack.signal("queue", signal.SIGKILL)
    killed_at, lease = time.monotonic(), queue.get(job).lease_until
    stack.up()
    wait_until(lambda: queue.get(job).lease_until > lease, "it is adopted")
    seconds = time.monotonic() - killed_at
    queue.wait_for_end([job])
    return f"adopted by the same dispatcher {seconds:.1f} s after the kill; {queue.outcome([job])}"


@fault("other", f"dispatcher kill -9, another with a lease of {LEASE:.0f} s takes over", f"attempt 1, {DONE}")
def dispatcher_replaced(stack: FaultStack) -> str:
    """By one that waits for the lease."""
    with without_queue(stack) as queue:
        with own_dispatcher(queue, "--name", "one", "--lease", str(LEASE)):
            job = queue.submit()
            queue.wait_for_training(job)
        killed_at = time.monotonic()
        with own_dispatcher(queue, "--name", "two", "--lease", str(LEASE)):
            wait_until(lambda: queue.get(job).owner == "two", "the other adopts it")
            seconds = time.monotonic() - killed_at
            queue.wait_for_end([job])
    return f"adopted by another {seconds:.1f} s after the kill; {queue.outcome([job])}"


@fault("asleep", f"dispatcher SIGSTOP beyond its lease of {LEASE:.0f} s, another takes over, SIGCONT", f"attempt 1, {DONE}")
def dispatcher_asleep(stack: FaultStack) -> str:
    """When it wakes up, the job is no longer its own."""
    options = ("--lease", str(LEASE))
    with (
        without_queue(stack) as queue,
        own_dispatcher(queue, "--name", "one", *options) as one,
        own_dispatcher(queue, "--name", "two", *options) as two,
    ):
        job = queue.submit()
        queue.wait_for_training(job)
        first, second = (one, "two") if queue.get(job).owner == "one" else (two, "one")
        first.send_signal(signal.SIGSTOP)
        wait_until(lambda: queue.get(job).owner == second, "the other adopts it")
        first.send_signal(signal.SIGCONT)
        queue.wait_for_end([job])
    return queue.outcome([job])


@fault("two", "two dispatchers, four jobs, two slots", f"each in attempt 1, never more than two at once, {DONE}")
def two_dispatchers(stack: FaultStack) -> str:
    """At once, from the start."""
    most = 0
    with without_queue(stack) as queue, own_dispatcher(queue, "--name", "one"), own_dispatcher(queue, "--name", "two"):
        jobs = [queue.submit() for _ in range(4)]

        def all_ended() -> bool:
            nonlocal most
            states = [queue.get(job).state for job in jobs]
            most = max(most, sum(state in (JobState.STARTING, JobState.RUNNING) for state in states))
            return all(state in (JobState.DONE, JobState.FAILED) for state in states)

        wait_until(all_ended, "all end", 900)
    return f"at most {most} at once; {queue.outcome(jobs)}"


def move_clock(stack: FaultStack, seconds: float) -> str:
    """A dispatcher is killed, and one whose clock differs takes over."""
    with without_queue(stack) as queue:
        with own_dispatcher(queue, "--name", "one", "--lease", str(LEASE)):
            job = queue.submit()
            queue.wait_for_training(job)
        options = ("--name", "two", "--lease", str(LEASE), "--clock-offset", str(seconds))
        with own_dispatcher(queue, *options):
            queue.wait_for_end([job])
    return queue.outcome([job])


@fault("clock-on", "clock an hour forward: a dispatcher dies, the next one's clock is ahead", f"attempt 1, {DONE}")
def clock_forward(stack: FaultStack) -> str:
    """All leases are over."""
    return move_clock(stack, 3600)


@fault("clock-back", "clock an hour back: a dispatcher dies, the next one's clock is behind", f"attempt 1, {DONE}")
def clock_back(stack: FaultStack) -> str:
    """All leases last an hour."""
    return move_clock(stack, -3600)


@fault("postgres", "PostgreSQL kill -9 under the dispatcher, started again after 5 s", f"the dispatcher ends, attempt 1, {DONE}")
def postgres(stack: FaultStack) -> str:
    """What starts the dispatcher again does so until the database is back."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.helpers.postgres import running_postgres

    with without_queue(stack), running_postgres() as server:
        queue = Queue(stack, server.new_database())
        with own_dispatcher(queue) as dispatcher:
            job = queue.submit()
            queue.wait_for_training(job)
            server.stop(signal.SIGKILL)
            wait_until(lambda: dispatcher.poll() is not None, "the dispatcher ends")
            time.sleep(5)
            server.start()
        with own_dispatcher(queue):
            queue.wait_for_end([job])
        return queue.outcome([job])


@fault("disk-queue", "disk of the queue's database full (tmpfs of 1 MiB), then space again", f"the dispatcher ends; then {DONE}")
def disk_of_queue(stack: FaultStack) -> str:
    """A transaction that does not fit is no transaction."""
    folder = stack.home / "small"
    with without_queue(stack), small_disk(folder, "1m"):
        queue, filler = Queue(stack, f"sqlite:///{folder / 'queue.db'}"), folder / "filler"
        job = queue.submit()
        with filler.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(1024)):
                    pass
            except OSError as error:
                reason = error.strerror
        with own_dispatcher(queue) as dispatcher:
            wait_until(lambda: dispatcher.poll() is not None or queue.get(job).attempt, "the dispatcher ends", 60)
            ended = "the dispatcher ended" if dispatcher.poll() is not None else "it still had space"
        filler.unlink()
        with own_dispatcher(queue):
            queue.wait_for_end([job])
        return f"{reason}: {ended}; {queue.outcome([job])}"


@fault("twice", "a proxy sends the same submission twice", f"one job, attempt 1, {DONE}")
def submitted_twice(stack: FaultStack) -> str:
    """As proxies do that lose an answer."""
    token = Path(stack.state.environment["ADJOBS_QUEUE_TOKEN_PATH"]).read_text().strip()
    body = json.dumps(
        {"jobs": [{"verb": "train", "name": "job", "document": stack.document(), "key": secrets.token_hex(16)}]}
    ).encode()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    jobs = []
    for _ in range(2):
        request = urllib.request.Request(f"{stack.state.environment['ADJOBS_QUEUE_URL']}/api/jobs", body, headers)
        with urllib.request.urlopen(request, timeout=60) as response:
            jobs.append(json.load(response)["jobs"][0]["id"])
    queue = Queue(stack)
    queue.wait_for_end(jobs)
    return f"{len(set(jobs))} job; {queue.outcome(list(dict.fromkeys(jobs)))}"
