"""The embedded stack's folders and ports, and the environment of its services and clients.

All services listen on 127.0.0.1 only. Their ports lie in one block that starts at ``port_base``:

====== =========================================== ====== ===========================================
offset service                                     offset service
====== =========================================== ====== ===========================================
0      S3                                          20     Ray: dashboard and jobs
1, 2   SeaweedFS: master, its gRPC                 21     Ray: cluster (GCS)
3, 4   SeaweedFS: volume, its gRPC                 22     Ray: ``ray://`` clients
5, 6   SeaweedFS: filer, its gRPC                  23, 24 Ray: agent, its gRPC
7      SeaweedFS: S3's gRPC                        25     Ray: metrics
8      SeaweedFS: administration                   26, 27 Ray: node manager, object manager
10     MLflow                                      28     Ray: runtime environments
11     Queue
10008  SeaweedFS: administration's gRPC
====== =========================================== ====== ===========================================

The last one is 10,000 above its neighbour because SeaweedFS's own maintenance worker expects it there. The system chooses the
ports of Ray's workers.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from adjobs.errors import StackError
from adjobs.stack.credentials import BUCKET, MLFLOW_USER, Credentials, private_folder
from adjobs.stack.processes import SERVICE, STACK_ID

HOST = "127.0.0.1"
OFFSETS = {
    "S3": 0,
    "S3 master": 1,
    "S3 master gRPC": 2,
    "S3 volume": 3,
    "S3 volume gRPC": 4,
    "S3 filer": 5,
    "S3 filer gRPC": 6,
    "S3 gRPC": 7,
    "S3 administration": 8,
    "MLflow": 10,
    "Queue": 11,
    "Ray dashboard": 20,
    "Ray cluster": 21,
    "Ray clients": 22,
    "Ray agent": 23,
    "Ray agent gRPC": 24,
    "Ray metrics": 25,
    "Ray node manager": 26,
    "Ray object manager": 27,
    "Ray runtime environments": 28,
    "S3 administration gRPC": 10008,
}
CERTIFIED = tuple(title for title in OFFSETS if title.startswith("S3 "))
"""Ports that ask for SeaweedFS's certificate: all of its own but that of S3 itself."""

# Ray appends session_<time>_<pid>/sockets/plasma_store, 64 bytes, and the path of a Unix socket has at most 107.
_RAY_FOLDER_BYTES = 40
# Variables of the calling shell that could point a service to another system, such as the session token of another S3.
_CLIENT_PREFIXES = (
    "AWS_",
    "MLFLOW_",
    "RAY_AUTH_",
    "RAY_ADDRESS",
    "RAY_API_SERVER_ADDRESS",
    "RAY_JOB_CONFIG_JSON_ENV_VAR",
    "WEED_",
)


@dataclass(frozen=True)
class StackConfig:
    """What the services share: folders, ports and secrets.

    Attributes:
        stack_id: in the environment of every process of the stack.
        home: folder of the user.
        port_base: first port of the block.
        cpus: CPUs that Ray may give to jobs; None: all.
        slots: queued jobs that run at once.
        credentials: secrets of the services.
    """

    stack_id: str
    home: Path
    port_base: int
    cpus: int | None
    slots: int
    credentials: Credentials

    def port(self, title: str) -> int:
        """Port of a service by its name in ``OFFSETS``."""
        return self.port_base + OFFSETS[title]

    def url(self, title: str) -> str:
        """HTTP address of a service."""
        return f"http://{HOST}:{self.port(title)}"

    def data_folder(self, name: str) -> Path:
        """Folder of a service's data, which stays when the stack stops; made if it is missing."""
        return private_folder(private_folder(self.home / "stack") / name)


def client_environment(config: StackConfig) -> dict[str, str]:
    """Variables that a process needs in order to use the stack."""
    return {
        "MLFLOW_TRACKING_URI": config.url("MLflow"),
        "MLFLOW_TRACKING_USERNAME": MLFLOW_USER,
        "MLFLOW_TRACKING_PASSWORD": config.credentials.mlflow_password,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "ADJOBS_ARTIFACTS": f"s3://{BUCKET}",
        **s3_environment(config, "jobs"),
        "RAY_ADDRESS": f"{HOST}:{config.port('Ray cluster')}",
        "RAY_API_SERVER_ADDRESS": config.url("Ray dashboard"),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(config.credentials.ray_token_file),
        # Made for Windows and macOS; off, it keeps every socket of Ray, and of its clients, on the loopback address.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "ADJOBS_QUEUE_URL": config.url("Queue"),
        "ADJOBS_QUEUE_TOKEN_PATH": str(config.credentials.queue_token_file),
    }


def s3_environment(config: StackConfig, identity: str) -> dict[str, str]:
    """Variables by which a process uses S3 as one of its identities."""
    keys = config.credentials.s3_keys[identity]
    return {
        "AWS_ENDPOINT_URL": config.url("S3"),
        "AWS_ACCESS_KEY_ID": keys.access_key,
        "AWS_SECRET_ACCESS_KEY": keys.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def service_environment(config: StackConfig, service: str, extra: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without the variables of clients, which could point to another system; ``extra`` is added."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_CLIENT_PREFIXES)}
    return inherited | {STACK_ID: config.stack_id, SERVICE: service} | dict(extra)


def socket_folder(home: Path) -> Path:
    """A private folder with a short path for Unix sockets. Ray makes its own folder in it readable to everybody.

    Raises:
        StackError: every possible path is too long.
    """
    short = f"adjobs-ray-{hashlib.sha256(os.fsencode(home)).hexdigest()[:8]}"
    for folder in (home / "stack", Path(tempfile.gettempdir(), short), Path("/tmp", short)):
        if len(os.fsencode(folder / "ray")) <= _RAY_FOLDER_BYTES:
            return private_folder(folder)
    raise StackError(f"{folder}: too long for Unix sockets; set ADJOBS_HOME to a shorter path")
