"""The real stack: who may talk to it, from where, and what remains of it. That all of it ends is checked by its fixture."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import stat
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from adjobs.errors import StackError
from adjobs.stack import components, config, processes
from adjobs.storage import open_store
from tests.integration.conftest import free_port_base

pytestmark = pytest.mark.slow


def get(url: str, token: str | None = None) -> tuple[int, str]:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""


def listening(pids: set[int]) -> dict[int, str]:
    found = [c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.pid in pids]
    return {c.laddr.port: c.laddr.ip for c in found}


@pytest.fixture(autouse=True)
def _environment(stack_env: dict[str, str]) -> None:
    """Every test is a client of the stack."""


def test_s3_refuses_who_has_no_keys() -> None:
    store = open_store(os.environ["ADJOBS_ARTIFACTS"])
    store.write("private/a.txt", b"x")
    for path in ("", "adjobs", "adjobs?list-type=2", "adjobs/private/a.txt"):
        assert get(f"{os.environ['AWS_ENDPOINT_URL']}/{path}")[0] == 403
    base = int(os.environ["AWS_ENDPOINT_URL"].rpartition(":")[2])
    assert get(f"http://127.0.0.1:{base + 5}/buckets/adjobs/private/a.txt")[0] == 404  # the filer knows no keys
    assert store.read("private/a.txt") == b"x"


def test_mlflow_keeps_artifacts_in_s3() -> None:
    url = os.environ["MLFLOW_TRACKING_URI"]
    assert get(f"{url}/health") == (200, "OK")
    where = "api/2.0/mlflow-artifacts/artifacts/0/run/artifacts/note.txt"
    request = urllib.request.Request(f"{url}/{where}", data=b"seen", method="PUT")
    assert urllib.request.urlopen(request, timeout=20).status == 200
    assert get(f"{url}/{where}") == (200, "seen")
    assert open_store("s3://adjobs/mlflow").read("0/run/artifacts/note.txt") == b"seen"


def test_ray_refuses_who_has_no_token() -> None:
    url = os.environ["RAY_API_SERVER_ADDRESS"]
    token = Path(os.environ["RAY_AUTH_TOKEN_PATH"]).read_text().strip()
    assert get(f"{url}/api/version")[0] == 401
    assert get(f"{url}/api/jobs/")[0] == 401
    assert get(f"{url}/api/version", "wrong")[0] == 403
    assert get(f"{url}/api/jobs/", token) == (200, "[]")
    assert json.loads(get(f"{url}/api/version", token)[1])["ray_version"]


def test_every_socket_is_on_the_loopback_address(stack: dict[str, Any]) -> None:
    ports = listening({process.pid for process in processes.of_stack(stack["id"])})
    assert {one["port"] for one in stack["services"].values()} <= set(ports)
    addresses = {ipaddress.ip_address(address) for address in ports.values()}
    assert all((address.ipv4_mapped or address if address.version == 6 else address).is_loopback for address in addresses)


def test_what_lies_in_home_is_private(stack: dict[str, Any]) -> None:
    home = Path(stack["home"])
    files = [home / "stack.json", *(home / "credentials").iterdir()]
    assert len(files) == 4
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    # Ray opens its folder to everybody, and its sockets are in there.
    assert stat.S_IMODE((home / "stack").stat().st_mode) == 0o700
    words = " ".join(word for process in processes.of_stack(stack["id"]) for word in process.cmdline())
    secrets = [os.environ["AWS_SECRET_ACCESS_KEY"], *(path.read_text().strip() for path in (home / "credentials").iterdir())]
    assert not [secret for secret in secrets if secret in words]


def test_every_process_can_be_found(stack: dict[str, Any]) -> None:
    tree = psutil.Process(stack["services"]["ray"]["pid"]).children(recursive=True)
    assert len(tree) > 10
    assert all(processes.carries(process, processes.STACK_ID, stack["id"]) for process in tree if processes.is_alive(process))


def test_up_again_is_harmless_and_status_tells(stack: dict[str, Any]) -> None:
    from adjobs.stack import lifecycle as service

    state = service.up(stack["port_base"] + 30)
    assert state == {key: value for key, value in stack.items() if key != "home"}
    found = service.status()
    assert found["running"]
    assert {name: one["pid"] for name, one in found["services"].items()} == {
        name: one["pid"] for name, one in state["services"].items()
    }
    assert all(one["memory"] > 20 * 2**20 for one in found["services"].values())


def test_another_stack_on_the_same_ports_is_refused(
    stack: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adjobs.stack import lifecycle as service

    monkeypatch.setenv("ADJOBS_HOME", str(tmp_path))
    with pytest.raises(StackError, match=rf"port {stack['port_base']} \(S3\) is in use by weed \(process \d+\)"):
        service.up(stack["port_base"])
    assert service.down()["stopped"] == 0


def test_data_and_keys_stay_when_the_stack_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stack of its own with the real S3; the other two do nothing, to save a minute."""
    from adjobs.stack import lifecycle as service

    def idle(name: str, where: config.Site) -> components.Service:
        command, environment = ["sleep", "100"], config.service_environment(where, name, {})
        return components.Service(name, name, command, environment, tmp_path, 1, "http://x", lambda: True)

    monkeypatch.setenv("ADJOBS_HOME", str(tmp_path))
    monkeypatch.setattr(components, "ray", partial(idle, "ray"))
    monkeypatch.setattr(components, "mlflow", partial(idle, "mlflow"))
    try:
        first = service.up(free_port_base())
        open_store("s3://adjobs", first["environment"]).write("kept/a.txt", b"still here")
        processes.stop([psutil.Process(first["services"]["mlflow"]["pid"])], 5)
        assert not service.status()["running"]

        second = service.up(free_port_base())
        assert second["port_base"] != first["port_base"]
        assert second["environment"]["AWS_SECRET_ACCESS_KEY"] == first["environment"]["AWS_SECRET_ACCESS_KEY"]
        assert open_store("s3://adjobs", second["environment"]).read("kept/a.txt") == b"still here"
    finally:
        service.down()
        shutil.rmtree(config.socket_folder(tmp_path))
    assert processes.of_stack(first["id"]) == []
