"""The scripts and commands of the containers, run on a real PostgreSQL."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from adjobs.errors import StorageError
from adjobs.stack.certificates import requires_certificate
from adjobs.storage import open_store
from tests.helpers.deploy import COMPOSE, ROOT, read_yaml
from tests.helpers.postgres import free_port, running_postgres

pytestmark = pytest.mark.slow

WITH_SECRETS = str(ROOT / "docker" / "with-secrets")
SECONDS = 120.0


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deploy") / "secrets"
    subprocess.run([ROOT / "docker" / "make-secrets", folder], check=True)
    return folder


@pytest.fixture(scope="module")
def databases(secrets: Path) -> Iterator[Path]:
    """The secrets of a PostgreSQL server whose databases were made as its image makes them."""
    with running_postgres() as server:
        address = urlsplit(server.new_database())
        environment = {
            "PATH": f"{server.programs}{os.pathsep}{os.defpath}",
            "PGHOST": "127.0.0.1",
            "PGPORT": str(server.port),
            "PGPASSWORD": address.password or "",
            "POSTGRES_USER": "adjobs",
            "MLFLOW_DATABASE_PASSWORD_FILE": str(secrets / "mlflow_database_password"),
            "QUEUE_DATABASE_PASSWORD_FILE": str(secrets / "queue_database_password"),
        }
        subprocess.run([ROOT / "cluster/kubernetes/base/create-databases.sh"], env=environment, check=True)
        for name in ("mlflow_database", "queue_database"):
            path = secrets / name
            path.write_text(path.read_text().replace("postgres:5432", f"127.0.0.1:{server.port}"))
        yield secrets


def command_of(service: str, **changed: object) -> list[str]:
    """The command of a service in compose.yaml, with some of its options changed."""
    command = read_yaml(COMPOSE)["services"][service]["command"]
    options = [word for word in command if word.partition("=")[0].removeprefix("--") not in changed]
    return [*options, *(f"--{name}={value}" for name, value in changed.items())]


@contextmanager
def running(command: list[str], environment: Mapping[str, str], url: str, folder: Path) -> Iterator[None]:
    """A service, from when it answers to the end of the block."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    inherited = {"PATH": programs, "HOME": str(folder), "MLFLOW_DISABLE_TELEMETRY": "true", **environment}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([WITH_SECRETS, *command], env=inherited, cwd=folder, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + SECONDS
        while status(url) != 200:
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(SECONDS)


def status(url: str, **headers: str) -> int | None:
    """Status of the answer to a GET; None if nothing answers."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def test_dispatch_on_postgresql_answers_and_makes_tokens(databases, tmp_path):
    port = free_port()
    environment = {
        "ADJOBS_HOME": str(tmp_path / "home"),
        "ADJOBS_ARTIFACTS": str(tmp_path / "artifacts"),
        "ADJOBS_QUEUE_DATABASE_FILE": str(databases / "queue_database"),
        "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{free_port()}",
        "RAY_AUTH_TOKEN_PATH": str(databases / "ray_token"),
    }
    url = f"http://127.0.0.1:{port}"
    with running(command_of("dispatcher", host="127.0.0.1", port=port, slots=2), environment, f"{url}/healthz", tmp_path):
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        create = [WITH_SECRETS, "adjobs", "token", "create", "prometheus", "--role", "viewer"]
        token = subprocess.run(create, env=environment, check=True, capture_output=True, text=True).stdout.strip()
        assert status(f"{url}/metrics") == 401
        assert status(f"{url}/metrics", Authorization=f"Bearer {token}") == 200


def test_mlflow_on_postgresql_answers_under_its_names_only(databases, tmp_path):
    port = free_port()
    service = read_yaml(COMPOSE)["services"]["mlflow"]["environment"]
    environment = {
        "MLFLOW_BACKEND_STORE_URI_FILE": str(databases / "mlflow_database"),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": service["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"],
        "MLFLOW_SERVER_ALLOWED_HOSTS": f"mlflow:5000,127.0.0.1:{port}",
    }
    url = f"http://127.0.0.1:{port}"
    with running(command_of("mlflow", host="127.0.0.1", port=port), environment, f"{url}/health", tmp_path):
        search = f"{url}/api/2.0/mlflow/experiments/search?max_results=1"
        assert status(search) == 200
        assert status(search, Host="mlflow:5000") == 200
        assert status(search, Host="mlflow.example.com") == 403


def test_s3_closes_its_other_ports_and_knows_its_clients(secrets, tmp_path):
    mounted = tmp_path / "secrets"
    mounted.mkdir()
    for name in ("s3_config", "s3_certificate", "s3_security"):
        text = (secrets / name).read_text().replace("/run/secrets", str(mounted))
        (mounted / {"s3_security": "security.toml"}.get(name, name)).write_text(text)
    servers = ("master", "volume", "filer", "admin")
    ports = {f"{name}.port": free_port() for name in servers} | {f"{name}.port.grpc": free_port() for name in (*servers, "s3")}
    port = free_port()
    changed = {"dir": tmp_path / "data", "ip.bind": "127.0.0.1", "s3.port": port, **ports}
    options = [word.replace("/run/secrets", str(mounted)) for word in read_yaml(COMPOSE)["services"]["s3"]["command"]]
    options = [word for word in options if word.partition("=")[0].removeprefix("-") not in changed]
    command = ["weed", *options, *(f"-{name}={value}" for name, value in changed.items())]
    (tmp_path / "data").mkdir()
    with running(command, {}, f"http://127.0.0.1:{port}/healthz", tmp_path):
        wait_for(lambda: all(requires_certificate("127.0.0.1", number) for number in ports.values()))
        for identity, bucket in (("jobs", "adjobs"), ("dispatcher", "adjobs/queue"), ("mlflow", "mlflow")):
            keys = [(secrets / f"s3_{identity}_{kind}_key").read_text() for kind in ("access", "secret")]
            environment = {
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
                "AWS_DEFAULT_REGION": "us-east-1",
                "AWS_ACCESS_KEY_ID": keys[0],
                "AWS_SECRET_ACCESS_KEY": keys[1],
            }
            wait_for(partial(is_writable, f"s3://{bucket}", environment))
            assert not is_writable("s3://mlflow" if identity == "jobs" else "s3://adjobs/data", environment)
    for number in (port, *ports.values()):
        for socket in Path("/tmp").glob(f"seaweedfs-*-{number}.sock"):
            socket.unlink()


def is_writable(uri: str, environment: Mapping[str, str]) -> bool:
    try:
        open_store(uri, environment).write("a.txt", b"x")
    except StorageError:
        return False
    return True


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
