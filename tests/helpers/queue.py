"""A queue whose Ray head does what a test says."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import uvicorn

from adjobs.errors import ClusterError, RefusedError
from adjobs.queue import tokens
from adjobs.queue.archives import Archives
from adjobs.queue.client import QueueClient
from adjobs.queue.dispatcher import Dispatcher, Limits
from adjobs.queue.folder import JobFolder
from adjobs.queue.heartbeat import Heartbeat
from adjobs.queue.ray_jobs import ForeignJob, RayJob, RayStatus, Versions
from adjobs.queue.records import NewJob, QueuedJob
from adjobs.queue.server import ServerOptions, make_app
from adjobs.queue.store import JobStore
from adjobs.queue.tokens import Role
from adjobs.storage import open_store
from adjobs.web.timed_protocol import TimedProtocol
from tests.helpers.drawing import draw_folder


def write_zip(path: Path, *names: str) -> tuple[Path, str]:
    """An archive with members of these names, and its SHA-256."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(zipfile.ZipInfo(name), name * 1000)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


class Killed(BaseException):
    """Stands for the death of the dispatcher."""


class DrawnCluster:
    """A Ray head that does what a test says."""

    def __init__(self) -> None:
        self.jobs: dict[str, RayJob] = {}
        self.submitted: list[str] = []
        self.working_dirs: list[str | None] = []
        self.environment: dict[str, str] = {}
        self.stopped: list[str] = []
        self.is_down = False
        self.dies_before = self.dies_after = False
        self.resources: list[dict[str, float]] = [{"CPU": 8.0, "GPU": 1.0}]
        self.log = ""
        self.refusal = ""
        self.foreign: list[ForeignJob] = []

    def nodes(self) -> list[dict[str, float]]:
        self._answer()
        return self.resources

    def submit(self, submission_id: str, entrypoint: str, environment: Mapping[str, str], working_dir: str | None = None) -> None:
        self._answer()
        if self.dies_before:
            raise Killed
        if self.refusal:
            raise RefusedError(self.refusal)
        if submission_id not in self.jobs:
            self.submitted.append(submission_id)
            self.working_dirs.append(working_dir)
            self.environment = dict(environment)
            self.jobs[submission_id] = RayJob(RayStatus.PENDING, "", None)
        if self.dies_after:
            raise Killed

    def job(self, submission_id: str) -> RayJob | None:
        self._answer()
        return self.jobs.get(submission_id)

    def versions(self) -> Versions:
        self._answer()
        return Versions("3.11.7", "2.60.0")

    def stop(self, submission_id: str) -> None:
        self._answer()
        self.stopped.append(submission_id)

    def foreign_jobs(self) -> list[ForeignJob]:
        self._answer()
        return self.foreign

    def logs(self, submission_id: str) -> str:
        return self.log

    def set(self, submission_id: str, status: str, message: str = "", exit_code: int | None = None) -> None:
        self.jobs[submission_id] = RayJob(RayStatus(status), message, exit_code)

    def _answer(self) -> None:
        if self.is_down:
            raise ClusterError("Ray at http://head: does not answer")


class Setup:
    """A store, a cluster and dispatchers of one folder."""

    def __init__(self, root: Path, slots: int = 2) -> None:
        self.root, self.now, self.cluster = root, 1000.0, DrawnCluster()
        self.store = JobStore(f"sqlite:///{root / 'queue.db'}", lambda: self.now)
        self._limits = Limits(slots)

    def dispatcher(self, name: str = "one") -> Dispatcher:
        return Dispatcher(name, self.store, self.cluster, self.folder, self._limits, {"A": "1"})

    def folder(self, job: str) -> JobFolder:
        return JobFolder(open_store(self.root / "artifacts" / job))

    def submit(self, name: str, **values: Any) -> str:
        return self.store.submit(NewJob(name, {"verb": "train"}, "ann", name, **values))[0].id

    def get(self, job: str) -> QueuedJob:
        return self.store.get(job)


class RunningQueue:
    """A queue that answers over HTTP, and a data set for its jobs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store, self.cluster = JobStore(f"sqlite:///{root / 'queue.db'}"), DrawnCluster()
        self.archives = Archives.open(str(root / "artifacts"))
        self.data = draw_folder(root / "data", 12, 2, size=16)
        self.now = 0.0  # of the dispatcher's heartbeat
        self.deleted_folders: list[str] = []
        options = ServerOptions(
            "http://mlflow:5000", heartbeat=Heartbeat(lambda: self.now), delete_folder=self.deleted_folders.append
        )
        self.app = make_app(self.store, self.cluster, Limits(2), self.archives, options=options)
        config = uvicorn.Config(self.app, port=0, log_level="error", http=TimedProtocol)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self.url = ""

    def __enter__(self) -> Self:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        self.url = f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"
        return self

    def __exit__(self, *error: object) -> None:
        self._server.should_exit = True
        self._thread.join()
        self.store.close()

    def token(self, user: str = "ann", role: Role = Role.ADMIN) -> str:
        """A new token."""
        with self.store.transaction() as connection:
            return tokens.create(connection, user, role, 1.0)

    def client(self, user: str = "ann", role: Role = Role.SUBMITTER) -> QueueClient:
        """A client with a token of its own."""
        return QueueClient(self.url, self.token(user, role), seconds=20)

    def document(self) -> dict[str, Any]:
        """A job."""
        return {"method": "cdo", "data": {"uri": str(self.data), "image_size": 32}}

    def request(self, force: bool = False, **values: Any) -> dict[str, Any]:
        """A job to submit."""
        key = secrets.token_hex(16) if force else None
        return {"verb": "train", "name": "job", "document": self.document(), "key": key, **values}
