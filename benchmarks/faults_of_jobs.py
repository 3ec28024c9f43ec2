"""Faults of what runs a job: its driver, its workers, the Ray head, MLflow, S3, a disk."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from functools import partial

from fault_helpers import FaultStack, Queue, command_line, wait_until
from fault_registry import DONE, fault, small_disk

from adjobs.queue.states import JobState


def train_one(stack: FaultStack) -> tuple[Queue, str]:
    """A queue, and a job of it that trains."""
    queue = Queue(stack)
    job = queue.submit()
    queue.wait_for_training(job)
    return queue, job


@fault("driver", "driver kill -9 while it trains", f"attempt 2 resumes, {DONE}")
def driver(stack: FaultStack) -> str:
    """Ray sees that."""
    queue, job = train_one(stack)
    for process in stack.drivers():
        process.kill()
    queue.wait_for_end([job])
    return queue.outcome([job])


@fault("worker", "Ray worker (the one that trains) kill -9", f"attempt 1, {DONE}")
def worker(stack: FaultStack) -> str:
    """Ray Train starts the worker group again."""
    queue, job = train_one(stack)
    for process in stack.workers():
        if "RayTrainWorker" in " ".join(command_line(process)):
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
    return f"{outcome}, run {next(stored.info.status for stored in stack.runs() if stored.info.run_id == run)}"


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
    return f"{outcome}, run {next(stored.info.status for stored in stack.runs() if stored.info.run_id == run)}"


@fault("head", "Ray head kill -9, its drivers left alive, a new head after 10 s", f"attempt 2 resumes, {DONE}")
def head(stack: FaultStack) -> str:
    """The new head knows no job."""
    queue, job = train_one(stack)
    stack.signal("ray", signal.SIGKILL)
    time.sleep(10)
    reason = queue.get(job).reason
    stack.start("ray")
    queue.wait_for_end([job])
    return f"“{reason[:60]}…”; {queue.outcome([job])}"


@fault("down", "`adjobs down` while it trains, then `adjobs up`", f"attempt 2 resumes and is free, {DONE}")
def down(stack: FaultStack) -> str:
    """Drivers are asked to stop."""
    queue, job = train_one(stack)
    subprocess.run([sys.executable, "-m", "adjobs", "down", "--force"], check=True, capture_output=True)
    stack.up()
    queue.wait_for_end([job])
    return f"attempt {queue.get(job).attempt} of {queue.get(job).max_attempts}; {queue.outcome([job])}"


def restart(stack: FaultStack, service: str, seconds: float) -> str:
    """A service is killed and started again while a job trains."""
    queue, job = train_one(stack)
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
    queue, job = train_one(stack)
    stack.signal("s3", signal.SIGSTOP)
    time.sleep(30)
    stack.signal("s3", signal.SIGCONT)
    queue.wait_for_end([job])
    return queue.outcome([job])


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
