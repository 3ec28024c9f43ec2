"""``adjobs status --security``: whether what should be closed is closed.

Ports are asked from outside, without any of the stack's credentials. Its files, command lines, logs, databases and records of
jobs are searched for the values of its secrets.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from adjobs.config.settings import stack_file
from adjobs.errors import StackError
from adjobs.stack import leaks, probes, processes
from adjobs.stack.config import CERTIFIED, HOST, OFFSETS, socket_folder
from adjobs.stack.credentials import BUCKET
from adjobs.stack.probes import Check, Exposure
from adjobs.stack.state import StackState
from adjobs.storage import open_store

# Paths that show data. Health checks, MLflow's static files and version, the empty pages of Ray and of the queue, and Ray's
# metrics answer everybody.
_HTTP = {
    "S3": f"/{BUCKET}?list-type=2",
    "MLflow": "/api/2.0/mlflow/experiments/search?max_results=1",
    "Queue": "/api/jobs",
    "Ray dashboard": "/api/jobs/",
    "Ray agent": "/api/job_agent/jobs/",
    "Ray runtime environments": "/get_or_create_runtime_env",
}
# Methods that do nothing with an empty message.
_GRPC = {
    "Ray cluster": "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo",
    "Ray clients": "/ray.rpc.RayletDriver/ClusterInfo",
    "Ray agent gRPC": "/ray.rpc.ReporterService/GetTraceback",
    "Ray node manager": "/ray.rpc.NodeManagerService/GetNodeStats",
    "Ray object manager": "/ray.rpc.ObjectManagerService/Pull",
}


@dataclass(frozen=True)
class SecurityReport:
    """What is open and what is closed."""

    checks: list[Check]

    @property
    def is_closed(self) -> bool:
        """Whether nothing is open; what is unknown does not count."""
        return all(check.exposure != Exposure.OPEN for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {"closed": self.is_closed, "checks": [check._asdict() for check in self.checks]}


def inspect(home: Path) -> SecurityReport:
    """Check the stack of a user's folder.

    Raises:
        StackError: it does not run.
    """
    state = StackState.read(home)
    if state is None:
        raise StackError("the stack is not running; start it with: adjobs up")
    with ThreadPoolExecutor() as threads:
        ports = list(threads.map(lambda check: check(), port_checks(state.port_base)))
    running = processes.stack_processes(state.id)
    return SecurityReport([*ports, *probes.check_listeners(running), *_check_files(home), *_check_secrets(home, state, running)])


def port_checks(port_base: int) -> list[Callable[[], Check]]:
    """A check of every port that should be closed."""
    ports = {title: port_base + offset for title, offset in OFFSETS.items()}
    return [
        *(lambda t=title, p=path: probes.check_http(t, f"http://{HOST}:{ports[t]}{p}") for title, path in _HTTP.items()),
        *(lambda t=title: probes.check_certificate(t, HOST, ports[t]) for title in CERTIFIED),
        *(lambda t=title, m=method: probes.check_grpc(t, HOST, ports[t], m) for title, method in _GRPC.items()),
    ]


def _check_files(home: Path) -> list[Check]:
    credentials = home / "credentials"
    return [
        leaks.check_permissions("files of secrets", [stack_file(home), *sorted(credentials.iterdir())]),
        leaks.check_permissions("folders", [credentials, home / "stack", home / "logs", socket_folder(home)]),
    ]


def _check_secrets(home: Path, state: StackState, running: list[psutil.Process]) -> list[Check]:
    secrets = leaks.read_secrets(home / "credentials")
    logs = [*(home / "logs").rglob("*"), *(socket_folder(home) / "ray").glob("session_2*/logs/**/*")]
    files = [path for path in logs if path.is_file() and not path.is_symlink()]
    dashboard = state.port_base + OFFSETS["Ray dashboard"]
    token = Path(state.environment["RAY_AUTH_TOKEN_PATH"]).read_text().strip()
    store = open_store(state.environment["ADJOBS_ARTIFACTS"], state.environment)
    return [
        leaks.check_command_lines(running, secrets),
        leaks.check_files("secrets in logs", files, secrets),
        leaks.check_database("secrets in MLflow", home / "stack" / "mlflow" / "mlflow.db", secrets),
        leaks.check_database("secrets in the queue", home / "queue" / "queue.db", secrets),
        leaks.check_records("secrets in records of jobs", store, "queue", secrets),
        leaks.check_answer("secrets in Ray's jobs", f"http://{HOST}:{dashboard}{_HTTP['Ray dashboard']}", token, secrets),
    ]
