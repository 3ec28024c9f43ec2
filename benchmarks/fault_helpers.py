"""What benchmarks/faults.py needs: a stack whose services can be killed one by one, its jobs, and what became of them."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

from adjobs.queue.folder import JobSpec
from adjobs.queue.records import NewJob, QueuedJob
from adjobs.queue.states import ENDED
from adjobs.queue.store import JobStore
from adjobs.stack import components, credentials, lifecycle, processes
from adjobs.stack.config import StackConfig
from adjobs.stack.state import ServiceRecord, StackState
from adjobs.storage import open_store
from adjobs.tracking.client import connect

EXPERIMENT = "faults"
NICENESS = "RAY_worker_niceness"
"""Of Ray's workers; with Ray's own value of 15 they would hardly run beside other work."""
OF_RAY = ("IDLE", "DashboardAgent", "RuntimeEnvAgent", "_AutoscalingCoordinatorActor", "PlacementGroupCleaner")
"""Processes that a Ray head keeps; the last one is ended when the next job starts."""
DRIVER = "RAY_JOB_CONFIG_JSON_ENV_VAR"
TIMED = ("ms_per_image", "images_per_s", "seconds", "memory")
"""In the names of metrics that differ from run to run."""
PATIENCE = 420.0
SETTLING = 120.0
"""Seconds in which runs and processes that were left over must end."""


class FaultStack:
    """An embedded stack of its own."""

    def __init__(self, home: Path, port_base: int, epochs: int) -> None:
        self.home, self.port_base, self.epochs = home, port_base, epochs
        self.state: StackState
        self.expected: dict[str, float] = {}
        os.environ["ADJOBS_HOME"] = str(home)
        draw_images(home / "images")

    def up(self) -> None:
        """Start it, or what is missing of it."""
        os.environ[NICENESS] = "0"
        self.state = lifecycle.up(self.home, self.port_base, cpus=2, slots=2)
        os.environ.update(self.state.environment)

    @property
    def database(self) -> str:
        """Address of the queue's database."""
        return f"sqlite:///{self.home / 'queue' / 'queue.db'}"

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to the processes of a service; those of Ray without the drivers of jobs."""
        for process in processes.stack_processes(self.state.id):
            if processes.has_env(process, processes.SERVICE, name) and not processes.has_env(process, DRIVER):
                with contextlib.suppress(psutil.Error):
                    process.send_signal(number)

    def start(self, name: str) -> None:
        """Start a service again that was killed, and leave all others as they are."""
        stored = credentials.load(self.home / "credentials")
        config = StackConfig(self.state.id, self.home, self.port_base, 2, 2, stored)
        service: components.Service = getattr(components, name)(config)
        log = self.home / "logs" / f"{name}.log"
        processes.check_ports({service.title: service.port}, 30)
        process = processes.start(service.command, service.environment, service.folder, log)
        processes.wait_until(service.ready, process, service.title, log, 180)
        record = ServiceRecord(process.pid, service.port, service.url, str(log))
        self.state = replace(self.state, services={**self.state.services, name: record})
        self.state.write(self.home)

    def drivers(self) -> list[psutil.Process]:
        """Processes of drivers of jobs."""
        stack_processes = processes.stack_processes(self.state.id)
        return [process for process in stack_processes if "adjobs.cli.driver" in " ".join(command_line(process))]

    def workers(self) -> list[psutil.Process]:
        """Ray's processes that do something for a job."""
        titles = [(process, " ".join(command_line(process))) for process in processes.stack_processes(self.state.id)]
        return [process for process, title in titles if title.startswith("ray::") and not any(own in title for own in OF_RAY)]

    def document(self) -> dict[str, Any]:
        """A training of a few seconds, in which a checkpoint is stored every three steps."""
        params = {"backbone": "resnet18", "weights": "none", "epochs": self.epochs, "batch_size": 4}
        data = {"uri": str(self.home / "images"), "image_size": 32}
        track = {"experiment": EXPERIMENT}
        return {"method": "cdo", "data": data, "params": params, "train": {"cpus_per_worker": 1}, "track": track}

    def runs(self) -> list[Any]:
        """The runs of all jobs."""
        client = connect(os.environ["MLFLOW_TRACKING_URI"])
        experiment = client.get_experiment_by_name(EXPERIMENT)
        return list(client.search_runs([experiment.experiment_id], max_results=1000)) if experiment else []

    def metrics(self, run_id: str | None) -> dict[str, float]:
        """The final metrics of a run, without times."""
        run = next((run for run in self.runs() if run.info.run_id == run_id), None)
        values = {} if run is None else run.data.metrics
        return {name: value for name, value in values.items() if not any(word in name for word in TIMED)}


class Queue:
    """The record of a queue's jobs, read and written beside its dispatchers."""

    def __init__(self, stack: FaultStack, database: str | None = None) -> None:
        self.stack, self.database = stack, database or stack.database
        self.store = JobStore(self.database)

    def submit(self, **changes: Any) -> str:
        """Queue a job that equals no other; returns its id."""
        document = {**self.stack.document(), **changes}
        spec = JobSpec("train", "job", document)
        return self.store.submit(NewJob(secrets.token_hex(16), spec.to_dict(), "ann", "job"))[0].id

    def get(self, job: str) -> QueuedJob:
        """A job as it is now."""
        return self.store.get(job)

    def wait_for_training(self, job: str) -> str:
        """Wait until a job has stored a checkpoint; returns its run."""

        def run_with_checkpoint() -> str | None:
            run = self.get(job).run_id
            return run if run and open_store("s3://adjobs").list(f"checkpoints/{run}") else None

        return str(wait_until(run_with_checkpoint, f"job {job} trains"))

    def wait_for_end(self, jobs: Sequence[str], seconds: float = PATIENCE) -> None:
        """Wait until jobs have ended."""
        wait_until(lambda: all(self.get(job).state in ENDED for job in jobs), f"{', '.join(jobs)} end", seconds)

    def outcome(self, jobs: Sequence[str]) -> str:
        """What became of jobs, and whether anything is left of them."""
        words = [self._outcome_of(self.get(job)) for job in jobs]
        return "; ".join([*dict.fromkeys(words), *left_over(self.stack)])

    def _outcome_of(self, job: QueuedJob) -> str:
        changes = [change.state for change in self.store.history_of(job.id)]
        ends = sum(state in ENDED for state in changes)
        text = f"{job.state} in attempt {job.attempt}" if ends == 1 else f"**ended {ends} times**"
        if job.state != "done":
            return f"{text} ({job.reason})"
        run = next((run for run in self.stack.runs() if run.info.run_id == job.run_id), None)
        if run is None or run.info.status != "FINISHED":
            return f"{text}, **its run is {'missing' if run is None else run.info.status}**"
        is_equal = self.stack.metrics(job.run_id) == self.stack.expected
        return f"{text}, {'equal result' if is_equal else '**another result**'}"


def left_over(stack: FaultStack) -> list[str]:
    """Runs that stay RUNNING and processes of jobs that stay, when no job runs any more."""

    def has_settled() -> bool:
        return not (stack.drivers() or stack.workers() or any(run.info.status == "RUNNING" for run in stack.runs()))

    with contextlib.suppress(TimeoutError):
        wait_until(has_settled, "all settles", SETTLING)
    running = [run.info.run_id[:8] for run in stack.runs() if run.info.status == "RUNNING"]
    alive = [" ".join(command_line(process))[:60] for process in (*stack.drivers(), *stack.workers())]
    return [*([f"**RUNNING: {running}**"] if running else []), *([f"**alive: {alive}**"] if alive else [])]


@contextmanager
def own_dispatcher(queue: Queue, *options: str) -> Iterator[psutil.Popen]:
    """A dispatcher of benchmarks/fault_dispatcher.py, killed at the end of the block."""
    program = Path(__file__).with_name("fault_dispatcher.py")
    log = (queue.stack.home / "logs" / "own-dispatcher.log").open("ab")
    command = [sys.executable, str(program), "--database", queue.database, *options]
    process = psutil.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
        process.wait()
        log.close()


def draw_images(folder: Path) -> None:
    """Twenty normal images and ten with a bright bar, 32 × 32."""
    rng = np.random.default_rng(0)
    for label, count in (("good", 20), ("bad", 10)):
        (folder / label).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = rng.integers(90, 130, (32, 32, 3), dtype=np.uint8)
            if label == "bad":
                pixels[12:16, 6:26] = 240
            Image.fromarray(pixels).save(folder / label / f"{number:02}.png")


def command_line(process: psutil.Process) -> list[str]:
    """Its words; none if it has ended."""
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def wait_until(read: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """What ``read`` returns when that is true for the first time; errors of systems that are down count as false."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(Exception):
            if value := read():
                return value
        time.sleep(0.3)
    raise TimeoutError(f"waited {seconds:.0f} s in vain until {what}")
