"""The real stack: who can reach it and what it keeps. Its fixture checks that every process of it ends."""

from __future__ import annotations

import base64
import http.client
import ipaddress
import json
import os
import shutil
import ssl
import stat
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import grpc
import psutil
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from adjobs.errors import StackError, StorageError
from adjobs.stack import components, config, lifecycle, processes, security
from adjobs.stack.state import StackState
from adjobs.storage import Store, open_store
from tests.integration.conftest import free_port_base

pytestmark = pytest.mark.slow


def get(url: str, token: str | None = None, login: str | None = None) -> tuple[int, str]:
    """Status and text of the answer to a GET, with a bearer token, or with a name and a password."""
    headers = {"Authorization": f"Bearer {token}"} if token else login_header(login) if login else {}
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""


def login_header(login: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}


def mlflow_login() -> str:
    return f"{os.environ['MLFLOW_TRACKING_USERNAME']}:{os.environ['MLFLOW_TRACKING_PASSWORD']}"


def listening(pids: set[int]) -> dict[int, str]:
    """Address by port of the sockets on which these processes listen."""
    sockets = [c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.pid in pids]
    return {socket.laddr.port: socket.laddr.ip for socket in sockets}


@pytest.fixture(autouse=True)
def _environment(stack_env: dict[str, str]) -> None:
    """Every test is a client of the stack."""


def test_s3_without_keys_is_refused() -> None:
    store = open_store(os.environ["ADJOBS_ARTIFACTS"])
    store.write("private/a.txt", b"x")
    for path in ("", "adjobs", "adjobs?list-type=2", "adjobs/private/a.txt"):
        assert get(f"{os.environ['AWS_ENDPOINT_URL']}/{path}")[0] == 403
    assert store.read("private/a.txt") == b"x"


def test_s3_answers_at_its_other_ports_with_a_certificate_only(stack: dict[str, Any]) -> None:
    ports = {title: stack["port_base"] + offset for title, offset in config.OFFSETS.items() if title.startswith("S3 ")}
    certificate = Path(stack["home"], "credentials", "s3-certificate.pem")
    with_certificate = ssl.create_default_context(cafile=certificate)
    with_certificate.load_cert_chain(certificate)
    for title, port in ports.items():
        if title.endswith("gRPC"):
            sockets = list(Path("/tmp").glob(f"seaweedfs-*-grpc-{port}.sock"))
            assert len(sockets) == 1
            for target in (f"127.0.0.1:{port}", f"unix:{sockets[0]}"):
                assert grpc_status(target) == grpc_status(target, certificate, None) == grpc.StatusCode.UNAVAILABLE, title
                assert grpc_status(target, certificate, certificate) == grpc.StatusCode.UNIMPLEMENTED, title
        else:
            assert get(f"http://127.0.0.1:{port}/status")[0] == 400, title
            for context in (ssl.create_default_context(cafile=certificate), ssl._create_unverified_context()):
                with pytest.raises(OSError, match=r"(?i)certificate.required|reset by peer"):
                    urllib.request.urlopen(f"https://127.0.0.1:{port}/status", timeout=20, context=context)
            connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=with_certificate)
            connection.request("GET", "/")
            assert connection.getresponse().status in {200, 401, 404}, title
            connection.close()


def grpc_status(target: str, authority: Path | None = None, own: Path | None = None) -> grpc.StatusCode:
    """Status of a call of a method that no server has, in plain text, with TLS, or with TLS and a certificate."""
    if authority is None:
        channel = grpc.insecure_channel(target)
    else:
        mine = own and own.read_bytes()
        name = (("grpc.ssl_target_name_override", "127.0.0.1"),)
        channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(authority.read_bytes(), mine, mine), name)
    with channel, pytest.raises(grpc.RpcError) as error:
        channel.unary_unary("/none/None")(b"", timeout=20)
    return error.value.code()


def s3_keys(stack: dict[str, Any], identity: str) -> dict[str, str]:
    """Variables by which one of S3's clients uses it."""
    identities = json.loads(Path(stack["home"], "credentials", "s3.json").read_text())["identities"]
    (keys,) = [item["credentials"][0] for item in identities if item["name"] == identity]
    return stack["environment"] | {"AWS_ACCESS_KEY_ID": keys["accessKey"], "AWS_SECRET_ACCESS_KEY": keys["secretKey"]}


def test_s3_lets_each_client_do_what_it_needs_and_nothing_else(stack: dict[str, Any]) -> None:
    places = {"s3://adjobs/data/rights": "jobs", "s3://adjobs/queue/rights": "jobs", "s3://mlflow/rights": "mlflow"}
    for place, owner in places.items():
        for name in ("a.txt", "jobs.txt", "dispatcher.txt", "mlflow.txt"):
            open_store(place, s3_keys(stack, owner)).write(name, b"x")
    may_read = {"jobs": {"data", "queue"}, "dispatcher": {"data", "queue"}, "mlflow": {"mlflow"}}
    may_write = may_read | {"dispatcher": {"queue"}}
    for identity, readable in may_read.items():
        for place in places:
            store = open_store(place, s3_keys(stack, identity))
            folder = place.split("/")[-2]
            for act in (lambda s: s.read("a.txt"), lambda s: s.exists("none.txt"), lambda s: s.list()):
                assert is_allowed(act, store) == (folder in readable), (identity, place)
            for act in (lambda s: s.write("b.txt", b"y"), lambda s, name=f"{identity}.txt": s.delete(name)):
                assert is_allowed(act, store) == (folder in may_write[identity]), (identity, place)


def is_allowed(act: Callable[[Store], object], store: Store) -> bool:
    """Whether S3 does as it is asked, or refuses for want of a right."""
    try:
        act(store)
    except StorageError as error:
        if "not allowed with these keys" in str(error) or "Access Denied" in str(error):
            return False
        raise
    return True


def test_s3_lets_no_client_change_a_bucket(stack: dict[str, Any]) -> None:
    rule = {"ID": "a", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}}
    for identity, bucket in (("jobs", "adjobs"), ("dispatcher", "adjobs"), ("mlflow", "mlflow")):
        keys = s3_keys(stack, identity)
        session = boto3.session.Session(keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"], region_name="us-east-1")
        client = session.client("s3", endpoint_url=keys["AWS_ENDPOINT_URL"], config=Config(s3={"addressing_style": "path"}))
        for act in (
            lambda c, b: c.put_bucket_lifecycle_configuration(Bucket=b, LifecycleConfiguration={"Rules": [rule]}),
            lambda c, b: c.put_bucket_versioning(Bucket=b, VersioningConfiguration={"Status": "Enabled"}),
            lambda c, b: c.put_bucket_policy(Bucket=b, Policy="{}"),
            lambda c, b: c.put_bucket_acl(Bucket=b, ACL="public-read"),
            lambda c, b: c.delete_bucket(Bucket=b),
            lambda c, b: c.create_bucket(Bucket=f"{b}-2"),
        ):
            with pytest.raises(ClientError, match="AccessDenied"):
                act(client, bucket)


def test_mlflow_stores_artifacts_in_s3(stack: dict[str, Any]) -> None:
    url = os.environ["MLFLOW_TRACKING_URI"]
    assert get(f"{url}/health") == (200, "OK")
    artifact = f"{url}/api/2.0/mlflow-artifacts/artifacts/0/run/artifacts/note.txt"
    request = urllib.request.Request(artifact, data=b"text", method="PUT", headers=login_header(mlflow_login()))
    assert urllib.request.urlopen(request, timeout=20).status == 200
    assert get(artifact, login=mlflow_login()) == (200, "text")
    assert get(artifact)[0] == get(artifact, login="adjobs:wrong")[0] == 401
    assert open_store("s3://mlflow", s3_keys(stack, "mlflow")).read("0/run/artifacts/note.txt") == b"text"


def test_mlflow_without_password_is_refused(stack: dict[str, Any]) -> None:
    url = os.environ["MLFLOW_TRACKING_URI"]
    search = f"{url}/api/2.0/mlflow/experiments/search?max_results=1"
    for path in (search, f"{url}/", f"{url}/version", f"{url}/get-artifact", f"{url}/graphql", f"{url}/openapi.json"):
        assert get(path)[0] == get(path, login="adjobs:wrong")[0] == get(path, login="admin:password1234")[0] == 401, path
    assert get(search, login=mlflow_login())[0] == 200
    assert stat.S_IMODE(Path(stack["home"], "stack/mlflow/users.db").stat().st_mode) == 0o600


def test_ray_without_token_is_refused() -> None:
    url = os.environ["RAY_API_SERVER_ADDRESS"]
    token = Path(os.environ["RAY_AUTH_TOKEN_PATH"]).read_text().strip()
    assert get(f"{url}/api/version")[0] == 401
    assert get(f"{url}/api/jobs/")[0] == 401
    assert get(f"{url}/api/version", "wrong")[0] == 403
    assert get(f"{url}/api/jobs/", token)[0] == 200
    assert json.loads(get(f"{url}/api/version", token)[1])["ray_version"]


def test_stack_listens_on_loopback_addresses_only(stack: dict[str, Any]) -> None:
    ports = listening({process.pid for process in processes.stack_processes(stack["id"])})
    assert {service["port"] for service in stack["services"].values()} <= set(ports)
    addresses = {ipaddress.ip_address(address) for address in ports.values()}
    assert all((address.ipv4_mapped or address if address.version == 6 else address).is_loopback for address in addresses)


def test_stack_secrets_are_private(stack: dict[str, Any]) -> None:
    home = Path(stack["home"])
    files = [home / "stack.json", *(home / "credentials").iterdir()]
    assert len(files) == 7
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    # Ray makes its folder, with its sockets, accessible to everybody.
    assert stat.S_IMODE((home / "stack").stat().st_mode) == 0o700
    arguments = " ".join(word for process in processes.stack_processes(stack["id"]) for word in process.cmdline())
    secrets = [os.environ["AWS_SECRET_ACCESS_KEY"], *(path.read_text().strip() for path in (home / "credentials").iterdir())]
    assert not [secret for secret in secrets if secret in arguments]


def test_stack_is_closed_to_strangers(stack: dict[str, Any]) -> None:
    home = Path(stack["home"])
    report = security.inspect(home)
    assert {check.what: check.detail for check in report.checks if check.exposure != "closed"} == {}
    assert report.is_closed

    (home / "credentials" / "ray-token").chmod(0o644)
    (home / "logs" / "leak.log").write_text(f"login {mlflow_login()}\n")
    try:
        opened = {check.what: check.detail for check in security.inspect(home).checks if check.exposure != "closed"}
    finally:
        (home / "credentials" / "ray-token").chmod(0o600)
        (home / "logs" / "leak.log").unlink()
    assert opened == {
        "files of secrets": f"{home}/credentials/ray-token (0644)",
        "secrets in logs": f"mlflow-password in {home}/logs/leak.log",
    }


def test_stack_processes_have_the_stack_id(stack: dict[str, Any]) -> None:
    tree = psutil.Process(stack["services"]["ray"]["pid"]).children(recursive=True)
    assert len(tree) > 10
    assert all(processes.has_env(process, processes.STACK_ID, stack["id"]) for process in tree if processes.is_alive(process))


def test_up_of_a_running_stack_changes_nothing(stack: dict[str, Any]) -> None:
    before = StackState.read(Path(stack["home"]))
    state = lifecycle.up(Path(stack["home"]), stack["port_base"] + 30)
    assert state == before
    status = lifecycle.status(Path(stack["home"]))
    assert status.running
    assert {name: service.pid for name, service in status.services.items()} == {
        name: service.pid for name, service in state.services.items()
    }
    assert all(service.memory > 20 * 2**20 for service in status.services.values())


def test_up_on_the_ports_of_another_stack_is_refused(stack: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(StackError, match=rf"port {stack['port_base']} \(S3\) is in use by weed \(process \d+\)"):
        lifecycle.up(tmp_path, stack["port_base"])
    assert lifecycle.down(tmp_path).stopped == 0
    status = lifecycle.status(Path(stack["home"]))
    assert {name: service.answers for name, service in status.services.items()} == dict.fromkeys(stack["services"], True)


def test_up_on_other_ports_keeps_data_and_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A separate stack with the real S3; the other services do nothing, to save a minute."""

    def idle(name: str, stack_config: config.StackConfig) -> components.Service:
        command, environment = ["sleep", "100"], config.service_environment(stack_config, name, {})
        return components.Service(name, name, command, environment, tmp_path, 1, "http://x", lambda: True)

    monkeypatch.setattr(components, "ray", partial(idle, "ray"))
    monkeypatch.setattr(components, "mlflow", partial(idle, "mlflow"))
    monkeypatch.setattr(components, "queue", partial(idle, "queue"))
    try:
        first = lifecycle.up(tmp_path, free_port_base())
        open_store("s3://adjobs", first.environment).write("kept/a.txt", b"text")
        processes.stop([psutil.Process(first.services["mlflow"].pid)], 5)
        assert not lifecycle.status(tmp_path).running

        second = lifecycle.up(tmp_path, free_port_base())
        assert second.port_base != first.port_base
        assert second.environment["AWS_SECRET_ACCESS_KEY"] == first.environment["AWS_SECRET_ACCESS_KEY"]
        assert open_store("s3://adjobs", second.environment).read("kept/a.txt") == b"text"
    finally:
        lifecycle.down(tmp_path)
        shutil.rmtree(config.socket_folder(tmp_path))
    assert processes.stack_processes(first.id) == []
