"""A server under load: latency and memory at 80 % of what it can do, refusals at 200 %, moved aliases, a kill. Keeps a table.

    python benchmarks/serving.py MODEL IMAGES [--seconds 600] [--calm 600] [--overload 60] [--switches 5] [--engine auto]

MODEL is what `adjobs serve` takes; IMAGES is a folder. The model is registered twice, with two thresholds, in an MLflow of a
temporary folder, and served there by ``adjobs serve`` in a process of its own; a second process sends requests with one image
each, at equal distances in time, and measures from the time at which a request was due. Both share the machine.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import torch
from report import machine, table, write_result
from serving_load import Load, send_at_rate, send_one_after_the_other, send_until_answered

from adjobs.config.environment import load_settings
from adjobs.inference.inputs import find_images
from adjobs.inference.manifest import read_manifest, write_manifest
from adjobs.registry.models import ModelStore
from adjobs.tracking.client import connect
from adjobs.tracking.experiments import experiment_id
from adjobs.tracking.layout import RunRef
from adjobs.tracking.logged_model import ARTIFACT, log_model
from adjobs.tracking.runs import detector_folder

NAME = "served"
IMAGES = 64
CONNECTIONS = 400  # more than the server's queue
CLIENTS = 8  # that measure what the server can do
CAPACITY_SECONDS = 20
RECOVERY_SECONDS = 10
START_SECONDS = 300
FOLLOW_SECONDS = 1.0
RETRYING_CLIENTS, SHARE_KILLED = 4, 0.5
MIB = 2**20
HEAD = "| load | requests/s | for s | 200 | 503 | other | no answer | p50 ms | p95 ms | p99 ms |"


class Server:
    """``adjobs serve``, with its memory over time."""

    def __init__(self, home: Path, options: Sequence[str]) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._environment = {**os.environ, "ADJOBS_HOME": str(home)}
        arguments = [f"models:/{NAME}@champion", "--port", str(self.port), "--follow", str(FOLLOW_SECONDS), *options]
        self._command = [sys.executable, "-m", "adjobs", "serve", *arguments]
        self.start_seconds = 0.0
        self.start()

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        started_at = time.perf_counter()
        self._process = subprocess.Popen(self._command, env=self._environment, stdout=subprocess.DEVNULL)
        while not self.is_ready():
            if self._process.poll() is not None or time.perf_counter() - started_at > START_SECONDS:
                sys.exit("the server did not start; its log is above")
            time.sleep(0.2)
        self.start_seconds = time.perf_counter() - started_at

    def is_ready(self) -> bool:
        """Whether it answers predictions."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=10) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def is_running(self) -> bool:
        """Whether its process is the one that was started."""
        return self._process.poll() is None

    def rss_mib(self) -> float:
        """Its memory."""
        return psutil.Process(self._process.pid).memory_info().rss / MIB

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """Ask it to stop; returns its exit status."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(30)


def register(model: str, home: Path) -> ModelStore:
    """Two versions of the detector in an MLflow of its own; the second has another threshold."""
    settings = load_settings()
    uri = f"sqlite:///{home / 'mlflow' / 'mlflow.db'}"
    with detector_folder(settings.tracking_uri, settings.home, model) as folder:
        client = connect(uri)
        manifest = read_manifest(folder)
        for factor in (1.0, 1.01):
            copy = Path(shutil.copytree(folder, home / str(factor) / ARTIFACT))
            threshold = replace(manifest.threshold, value=manifest.threshold.value * factor)
            write_manifest(copy, manifest.model_copy(update={"threshold": threshold}))
            run = client.create_run(experiment_id(client, uri, "serving"))
            log_model(RunRef(uri, run.info.run_id), copy, NAME)
            client.set_terminated(run.info.run_id)
    store = ModelStore(uri)
    store.set_alias(NAME, "champion", 1)
    return store


@contextmanager
def sampled_memory(server: Server, seconds: float) -> Iterator[list[float]]:
    """The server's memory, in MiB, hundred times in so many seconds."""
    samples: list[float] = []
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(seconds / 100):
            samples.append(server.rss_mib())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield samples
    finally:
        stop.set()
        thread.join()


def move_alias(store: ModelStore, server: Server, switches: int, seconds: float) -> list[float]:
    """Move the champion at equal distances in time; returns the seconds until each move was in force."""
    waits = []
    for number in range(switches):
        time.sleep(seconds / (switches + 1) if not waits else max(0.0, seconds / (switches + 1) - waits[-1]))
        version = 2 if number % 2 == 0 else 1
        store.set_alias(NAME, "champion", version)
        moved_at = time.perf_counter()
        while f"version {version}" not in _state(server) and time.perf_counter() - moved_at < START_SECONDS:
            time.sleep(0.2)
        waits.append(time.perf_counter() - moved_at)
    return waits


def _state(server: Server) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/readyz", timeout=30) as answer:
            return str(answer.read().decode())
    except (OSError, urllib.error.URLError):
        return ""


def row(title: str, rate: float | None, load: Load) -> list[str]:
    """Of the table."""
    other = sum(count for status, count in load.statuses.items() if status not in (0, 200, 503))
    counts = [load.statuses[200], load.statuses[503], other, load.statuses[0]]
    percentiles = [f"{load.percentile(share):.0f}" for share in (0.5, 0.95, 0.99)]
    return [title, f"{load.rate if rate is None else rate:.1f}", f"{load.seconds:.0f}", *map(str, counts), *percentiles]


def main(arguments: argparse.Namespace) -> None:
    """Measure, print, keep."""
    images = [path.read_bytes() for path in find_images([arguments.images]).images[:IMAGES]]
    about = machine(torch.device("cpu"))
    with TemporaryDirectory(prefix="adjobs-serving-") as folder, ProcessPoolExecutor(1, get_context("spawn")) as pool:
        store = register(arguments.model, Path(folder))
        server = Server(Path(folder), ["--engine", arguments.engine])
        try:
            rows, lines = run_loads(server, store, arguments, images, pool.submit)
        finally:
            if server.is_running():
                status = server.stop()
    lines.append(f"Stopped by SIGTERM: exit status {status}.")
    sizes = f"{len(images)} images, {sum(map(len, images)) / len(images) / 1000:.0f} kB each; engine {arguments.engine}."
    write_result(arguments.name, "A server under load", about, [sizes, table(HEAD, rows), *lines])


def run_loads(
    server: Server,
    store: ModelStore,
    arguments: argparse.Namespace,
    images: list[bytes],
    submit: Callable[..., Future[Any]],
) -> tuple[list[list[str]], list[str]]:
    """Rows of the table, and what else there is to say."""
    rows, lines = [], [f"From its start to its readiness {server.start_seconds:.1f} s."]
    submit(send_one_after_the_other, server.port, images, 3, CLIENTS).result()
    capacity = submit(send_one_after_the_other, server.port, images, CAPACITY_SECONDS, CLIENTS).result()
    rows.append(row(f"what it can do, {CLIENTS} clients", None, capacity))

    rate, seconds = 0.8 * capacity.rate, arguments.seconds
    with sampled_memory(server, arguments.calm) as memory:
        load = submit(send_at_rate, server.port, images, rate, arguments.calm, CONNECTIONS).result()
    rows.append(row("80 %", rate, load))
    tenth = max(1, len(memory) // 10)
    ends = f"{sum(memory[tenth : 2 * tenth]) / tenth:.0f} MiB in the second tenth, {sum(memory[-tenth:]) / tenth:.0f} in the last"
    lines.append(f"Memory of the server at 80 %: {ends}, {max(memory):.0f} at most.")

    with sampled_memory(server, seconds) as memory:
        sending = submit(send_at_rate, server.port, images, rate, seconds, CONNECTIONS)
        waits = move_alias(store, server, arguments.switches, seconds)
        load = sending.result()
    rows.append(row(f"80 %, champion moved {arguments.switches} times", rate, load))
    seen = ", ".join(f"{count} by version {version}" for version, count in sorted(load.versions.items()))
    lines.append(f"Moved champions were in force after {', '.join(f'{wait:.1f}' for wait in waits)} s; predictions: {seen}.")
    lines.append(f"Memory meanwhile: {memory[-1]:.0f} MiB at the end, {max(memory):.0f} at most.")

    load = submit(send_at_rate, server.port, images, 2 * capacity.rate, arguments.overload, CONNECTIONS).result()
    rows.append(row("200 %", 2 * capacity.rate, load))
    lines.append(f"Refusals at 200 % without Retry-After: {load.without_advice}; the process is the same: {server.is_running()}.")
    time.sleep(1)
    load = submit(send_at_rate, server.port, images, 0.5 * capacity.rate, RECOVERY_SECONDS, CONNECTIONS).result()
    rows.append(row("50 %, a second later", 0.5 * capacity.rate, load))

    count = max(50, round(capacity.rate * 5))
    sending = submit(send_until_answered, server.port, images, count, RETRYING_CLIENTS)
    time.sleep(SHARE_KILLED * 5)
    server.kill()
    server.start()
    load = sending.result()
    rows.append(row(f"{RETRYING_CLIENTS} clients that try again, kill -9", None, load))
    lines.append(
        f"Killed after {SHARE_KILLED * 5:.1f} s, ready again {server.start_seconds:.1f} s later: {load.statuses[200]} of {count} "
        f"images predicted, the longest wait {load.longest_wait:.1f} s."
    )
    return rows, lines


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("images", type=Path)
    parser.add_argument("--seconds", type=float, default=600, help="at 80 %%, with moved aliases")
    parser.add_argument("--calm", type=float, default=600, help="seconds at 80 %% without")
    parser.add_argument("--overload", type=float, default=60, help="seconds at 200 %%")
    parser.add_argument("--switches", type=int, default=5)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--name", default="serving", help="of the file in results/")
    main(parser.parse_args())
