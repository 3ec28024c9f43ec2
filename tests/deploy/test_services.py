"""The scripts and commands of the containers, run on a real PostgreSQL."""

from __future__ import annotations

import base64
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
from typing import Any
from urllib.parse import urlsplit

import pytest

from adjobs.errors import StorageError, TrackingError
from adjobs.stack.certificates import requires_certificate
from adjobs.storage import open_store
from adjobs.tracking import accounts
from adjobs.tracking.client import connect, mlflow_errors
from adjobs.tracking.experiments import experiment_id
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
        for name in ("mlflow_database", "mlflow_login", "queue_database"):
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


def test_mlflow_on_postgresql_knows_its_names_and_its_users(databases, tmp_path, monkeypatch):
    port = free_port()
    names = ("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "MLFLOW_BASIC_AUTH_FAIL_CLOSED")
    service = read_yaml(COMPOSE)["services"]["mlflow"]["environment"]
    environment = {
        **{name: service[name] for name in names},
        "MLFLOW_BACKEND_STORE_URI_FILE": str(databases / "mlflow_database"),
        "MLFLOW_AUTH_CONFIG_PATH": str(databases / "mlflow_login"),
        "MLFLOW_AUTH_ADMIN_PASSWORD_FILE": str(databases / "mlflow_admin_password"),
        "MLFLOW_FLASK_SERVER_SECRET_KEY_FILE": str(databases / "mlflow_secret_key"),
        "MLFLOW_SERVER_ALLOWED_HOSTS": f"mlflow:5000,127.0.0.1:{port}",
    }
    url = f"http://127.0.0.1:{port}"
    changed = {"host": "127.0.0.1", "port": port, "artifacts-destination": tmp_path / "artifacts"}
    command = [word.replace("$$", "$").replace("/run/secrets", str(databases)) for word in command_of("mlflow", **changed)]
    with running(command, environment, f"{url}/health", tmp_path):
        search = f"{url}/api/2.0/mlflow/experiments/search?max_results=1"
        login = basic("jobs", (databases / "mlflow_jobs_password").read_text())
        assert [status(search), status(search, **basic("jobs", "wrong"))] == [401, 401]
        assert status(search, **login) == status(search, **login, Host="mlflow:5000") == 200
        assert status(search, **login, Host="mlflow.example.com") == 403
        monkeypatch.setenv("MLFLOW_AUTH_CONFIG_PATH", str(databases / "mlflow_login"))
        for name, role in PEOPLE.items():
            accounts.set_account(name, accounts.AccountRole(role), f"password of {name}")
        assert accounts.list_accounts() == sorted({**PEOPLE, "admin": "admin", "jobs": "member"}.items())
        log_in(monkeypatch, "jobs", (databases / "mlflow_jobs_password").read_text())
        run = record_as_jobs(url)
        for name in PEOPLE:
            log_in(monkeypatch, name, f"password of {name}")
            check_rights(url, name, run)


PEOPLE = {"ann": "approver", "bob": "member", "eve": "editor"}


def basic(name: str, password: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"}


def log_in(monkeypatch: pytest.MonkeyPatch, name: str, password: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", name)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)


def record_as_jobs(url: str) -> Any:
    """A run and a model, as jobs make them."""
    client = connect(url)
    run = client.create_run(experiment_id(client, url, "solar")).info
    client.log_text(run.run_id, "text", "note.txt")
    client.create_registered_model("solar")
    client.create_model_version("solar", run.artifact_uri, run.run_id)
    return run


def check_rights(url: str, name: str, run: Any) -> None:
    """All read what jobs made; an approver may set aliases, an editor may also add to runs; all own what they make."""

    def may(action: Callable[[], Any]) -> bool:
        try:
            with mlflow_errors(url):
                action()
        except TrackingError as error:
            if f"'{name}' may not do this" not in str(error):
                raise
            return False
        return True

    client = connect(url)
    assert client.get_run(run.run_id).info.run_id == run.run_id
    assert [file.path for file in client.list_artifacts(run.run_id)] == ["note.txt"]
    assert may(lambda: client.set_registered_model_alias("solar", "champion", "1")) == (name in ("ann", "eve"))
    assert may(lambda: client.log_metric(run.run_id, "x", 1.0)) == (name == "eve")
    assert may(lambda: client.log_text(run.run_id, "other", "other.txt")) == (name == "eve")
    assert may(lambda: client.create_run(run.experiment_id)) == (name == "eve")
    assert not may(lambda: client.delete_registered_model("solar"))
    own = client.create_run(client.create_experiment(f"of {name}")).info.run_id
    assert may(lambda: client.log_metric(own, "x", 1.0))


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
