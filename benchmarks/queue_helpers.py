"""What the measurement of the queue needs around it: a head that stands for Ray, dispatcher processes, databases, jobs."""

from __future__ import annotations

import json
import multiprocessing
import os
import secrets
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import sqlalchemy as sa
from PIL import Image

from adjobs.config import resolve
from adjobs.queue.folder import JobSpec
from adjobs.queue.ray_jobs import RayJob, RayStatus, Versions
from adjobs.queue.records import NewJob
from adjobs.queue.store import JobStore
from adjobs.queue.tokens import Role, create

NODES = {"data": {"result": {"result": [{"resources_total": {"CPU": 8.0, "memory": 2.0**34}}]}}}


class InstantCluster:
    """Ray in the measuring process; every driver has succeeded when it is first asked for."""

    def __init__(self) -> None:
        self.submitted: list[str] = []

    def nodes(self) -> list[dict[str, float]]:
        """The resources of each node."""
        return [{"CPU": 8.0}]

    def submit(self, submission_id: str, entrypoint: str, environment: Mapping[str, str], working_dir: str | None = None) -> None:
        """Keep the order."""
        self.submitted.append(submission_id)

    def job(self, submission_id: str) -> RayJob | None:
        """What becomes of a driver."""
        return RayJob(RayStatus.SUCCEEDED, "", 0)

    def versions(self) -> Versions:
        """Of nothing."""
        return Versions(None, None)

    def stop(self, submission_id: str) -> None:
        """Nothing runs."""

    def logs(self, submission_id: str) -> str:
        """Nothing is printed."""
        return ""


class _Head(BaseHTTPRequestHandler):
    """Ray's interface for jobs, as the queue uses it. After ``PUT /hold`` drivers run on, after ``PUT /end`` they succeed."""

    protocol_version = "HTTP/1.1"
    submitted: dict[str, None] = {}  # noqa: RUF012 (of the whole process)
    held = False

    def do_POST(self) -> None:
        """Submit or stop."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"] or 0)) or b"{}")
        if self.path == "/api/jobs/":
            self.submitted[body["submission_id"]] = None
        self._answer(200, {})

    def do_PUT(self) -> None:
        """Let drivers run on, or succeed."""
        type(self).held = self.path == "/hold"
        self._answer(200, {})

    def do_GET(self) -> None:
        """Nodes, all submissions in their order, or one job."""
        name = self.path.rsplit("/", 1)[1]
        if self.path.startswith("/api/v0/nodes"):
            self._answer(200, NODES)
        elif name == "submitted":
            self._answer(200, list(self.submitted))
        elif name in self.submitted:
            self._answer(200, {"status": "RUNNING" if self.held else "SUCCEEDED", "driver_exit_code": None if self.held else 0})
        else:
            self._answer(404, {})

    def _answer(self, status: int, value: object) -> None:
        data = json.dumps(value).encode()
        head = f"HTTP/1.1 {status} -\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n".encode()
        self.close_connection = True
        self.wfile.write(head + data)


def _serve_head(port: int) -> None:
    ThreadingHTTPServer.request_queue_size = 128
    ThreadingHTTPServer(("127.0.0.1", port), _Head).serve_forever()


class Head:
    """A process that answers as Ray's dashboard does."""

    def __init__(self) -> None:
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        self._process = multiprocessing.get_context("fork").Process(target=_serve_head, args=(port,), daemon=True)
        self._process.start()
        wait_until(lambda: self.submitted() == [])

    def submitted(self) -> list[str]:
        """Attempts in the order in which they were submitted."""
        with urllib.request.urlopen(f"{self.url}/submitted") as response:
            return list(json.load(response))

    def hold(self, held: bool) -> None:
        """Whether drivers run on."""
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/{'hold' if held else 'end'}", method="PUT")).close()

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.join()


class DispatcherProcess:
    """``adjobs dispatch``, as ``adjobs up`` starts it."""

    def __init__(self, root: Path, database: str, head: Head, slots: int) -> None:
        self._root, self._slots = root, slots
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(root),
            "ADJOBS_HOME": str(root / "home"),
            "ADJOBS_QUEUE_DATABASE": database,
            "RAY_API_SERVER_ADDRESS": head.url,
        }
        self.start(free_port())

    def start(self, port: int) -> None:
        """Start it, or start it again, and wait until it answers; on another port, it has another name."""
        self.port, self.url = port, f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "adjobs", "dispatch", "--port", str(port), "--slots", str(self._slots)]
        with (self._root / f"dispatcher-{port}.log").open("ab") as log:
            self.process = psutil.Popen(command, env=self._environment, stdout=log, stderr=log)
        wait_until(lambda: self.read("/healthz"))

    def kill(self) -> None:
        """End it as a loss of power does."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def memory_mib(self) -> float:
        """Its resident memory."""
        return float(self.process.memory_info().rss) / 2**20

    def read(self, path: str, token: str = "") -> bytes:
        """What it answers."""
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=60) as response:
            return bytes(response.read())


class Jobs:
    """Tiny jobs: each differs from the others in its seed alone."""

    def __init__(self, root: Path) -> None:
        folder = root / "data" / "train" / "good"
        folder.mkdir(parents=True)
        for number in range(14):
            pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number:02}.png")
        minimal = {"method": "cdo", "data": {"uri": str(root / "data"), "image_size": 32}}
        self._document = resolve.resolve(minimal, source="job").model_dump(mode="json")  # as 'adjobs submit' sends it

    def request(self, number: int) -> dict[str, Any]:
        """As a client sends it."""
        return {"verb": "train", "name": f"job {number}", "document": self._with_seed(number)}

    def new(self, number: int) -> NewJob:
        """As the store takes it."""
        spec = JobSpec("train", f"job {number}", self._with_seed(number))
        return NewJob(f"key {number}", spec.to_dict(), "ann", spec.name)

    def _with_seed(self, seed: int) -> dict[str, Any]:
        return {**self._document, "train": {**self._document["train"], "seed": seed}}


def make_token(store: JobStore, user: str) -> str:
    """A token of an administrator."""
    with store.transaction() as connection:
        return create(connection, user, Role.ADMIN, time.time())


@contextmanager
def empty_database(server: str | None, root: Path) -> Iterator[str]:
    """The address of an empty database.

    Args:
        server: address of a database on a PostgreSQL server, in which another one can be made; None: a SQLite file.
        root: folder of the file.
    """
    name = f"bench_{secrets.token_hex(6)}"
    if server is None:
        yield f"sqlite:///{root / name}.db"
        return
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"create database {name}")
        try:
            yield engine.url.set(database=name).render_as_string(hide_password=False)
        finally:
            connection.exec_driver_sql(f"drop database {name} with (force)")
    engine.dispose()


def wait_until(condition: Callable[[], object], seconds: float = 120.0) -> None:
    """Ask until it holds; a server that does not answer yet counts as no."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except (urllib.error.URLError, OSError):
            pass
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:.0f} s")
        time.sleep(0.01)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
