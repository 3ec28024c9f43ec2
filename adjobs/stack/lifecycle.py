"""The embedded stack: ``up``, ``down`` and ``status`` of S3, MLflow and Ray on this machine.

From pip packages alone, it is what production has. Data and secrets stay in the user's folder when it stops. Whoever may
run programs as this user may use it; other users of the machine cannot reach S3, Ray or the secrets, but can reach MLflow
and SeaweedFS's inner gRPC ports, which know no credentials: do not run it on a machine that is shared with strangers.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from adjobs.config import settings
from adjobs.errors import StackError
from adjobs.stack import components, credentials, processes
from adjobs.stack.components import Service
from adjobs.stack.config import OFFSETS, Site, client_environment

PORT_BASE = 18200
_START_SECONDS = 180  # MLflow took 34 s on a busy machine with two cores
_JOB_STOP_SECONDS = 10  # for the drivers of jobs, to close their runs
_STOP_SECONDS = 15


def _silent(_: str) -> None:
    pass


def up(port_base: int = PORT_BASE, cpus: int | None = None, progress: Callable[[str], None] = _silent) -> dict[str, Any]:
    """Start the stack, or leave it as it is when all of it runs; what is left of one that half runs is stopped first.

    Args:
        port_base: first port of the block; see ``adjobs.stack.config``.
        cpus: CPUs that Ray may give to jobs; all by default.
        progress: told what is being done.

    Returns:
        The state, as it stands in ``settings.stack_file()``: version, id, port_base, environment (what a client process
        needs), services (pid, create_time, port, url, log by name).

    Raises:
        StackError: a port is in use, a program is missing or ended; then nothing is left running.
    """
    if not 1024 <= port_base <= 65535 - max(OFFSETS.values()):
        raise StackError(f"--port-base: got {port_base}; have 1024 to {65535 - max(OFFSETS.values())}")
    with _lock():
        state = _read_state()
        if state and all(_running(state, name) for name in state["services"]):
            return state
        _stop_everything()
        site = Site(_stack_id(), settings.home(), port_base, cpus, credentials.load(settings.home() / "credentials"))
        processes.check_ports({title: site.port(title) for title in OFFSETS})
        try:
            state = _start(site, progress)
            credentials.write_private(settings.stack_file(), json.dumps(state, indent=1))
        except BaseException:  # Ctrl-C, too, leaves nothing behind
            progress("stopping what was started ...")
            _stop_everything(port_base)
            raise
        return state


def down(progress: Callable[[str], None] = _silent) -> dict[str, Any]:
    """Stop every process of the stack, jobs first and S3 last; nothing to stop is no error.

    Returns:
        ``stopped``: how many processes there were.

    Raises:
        StackError: a process does not end.
    """
    with _lock():
        found = len(processes.of_stack(_stack_id()))
        if found:
            progress(f"stopping {found} processes ...")
        _stop_everything()
    return {"running": False, "stopped": found}


def status() -> dict[str, Any]:
    """What runs where.

    Returns:
        ``running`` (all services do), ``port_base`` and, by name, ``services``: running, pid, port, url, log, memory in
        bytes and uptime in seconds, the last two None when it does not run.
    """
    state = _read_state()
    if state is None:
        return {"running": False, "port_base": None, "services": {}}
    found = {name: _service_status(state, name) for name in state["services"]}
    running = all(one["running"] for one in found.values())
    return {"running": running, "port_base": state["port_base"], "services": found}


def _service_status(state: dict[str, Any], name: str) -> dict[str, Any]:
    record = {key: value for key, value in state["services"][name].items() if key != "create_time"}
    process = _running(state, name)
    if process is None:
        return {"running": False, **record, "memory": None, "uptime": None}
    uptime = round(time.time() - process.create_time(), 1)
    return {"running": True, **record, "memory": processes.memory(process), "uptime": uptime}


def _start(site: Site, progress: Callable[[str], None]) -> dict[str, Any]:
    """Start S3, and then the others beside each other: each spends most of its start on one core."""
    logs = credentials.private_folder(site.home / "logs")
    records: dict[str, dict[str, Any]] = {}
    waiting: list[tuple[Service, subprocess.Popen[bytes]]] = []

    def start(service: Service) -> None:
        log = logs / f"{service.name}.log"
        process = processes.start(service.command, service.environment, service.folder, log)
        waiting.append((service, process))
        created = psutil.Process(process.pid).create_time()
        records[service.name] = {
            "pid": process.pid,
            "create_time": created,
            "port": service.port,
            "url": service.url,
            "log": str(log),
        }

    def wait() -> None:
        while waiting:
            service, process = waiting.pop()
            processes.wait_until(service.ready, process, service.title, logs / f"{service.name}.log", _START_SECONDS)

    progress("starting S3 ...")
    start(components.s3(site))
    wait()
    progress("starting MLflow and Ray ...")
    start(components.ray(site))
    _migrate(site, logs / "mlflow-migration.log", progress)
    start(components.mlflow(site))
    wait()
    credentials.write_private(*_mlflow_stamp(site))
    environment = client_environment(site)
    return {
        "version": 1,
        "id": site.stack_id,
        "port_base": site.port_base,
        "environment": environment,
        "services": {name: records[name] for name in ("s3", "mlflow", "ray")},
    }


def _migrate(site: Site, log: Path, progress: Callable[[str], None]) -> None:
    """Bring a database that another version of MLflow made to the installed one; a new one is made by the server itself.

    Only one process may do this, and before others open it: several at once would damage it for good.
    """
    stamp, version = _mlflow_stamp(site)
    if not (stamp.parent / "mlflow.db").exists() or (stamp.exists() and stamp.read_text() == version):
        return
    progress("bringing MLflow's database to the installed version ...")
    command, environment = components.mlflow_migration(site)
    process = processes.start(command, environment, stamp.parent, log)
    try:
        status = process.wait(_START_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise StackError(f"MLflow's database is not ready after {_START_SECONDS} s; see {log}") from error
    if status:
        raise StackError(f"MLflow's database cannot be prepared: {processes.essence(log)}; see {log}")


def _mlflow_stamp(site: Site) -> tuple[Path, str]:
    """The file that says which version of MLflow the database fits, and the version that is installed."""
    return site.data("mlflow") / "version", importlib.metadata.version("mlflow")


def _stop_everything(port_base: int | None = None) -> None:
    stack_id = _stack_id()
    # Drivers of jobs first, while MLflow and S3 still take what they have to say; S3 last.
    drivers = [p for p in processes.of_stack(stack_id) if processes.carries(p, "RAY_JOB_CONFIG_JSON_ENV_VAR")]
    processes.stop(drivers, _JOB_STOP_SECONDS)
    everything = processes.of_stack(stack_id)
    processes.stop([p for p in everything if not processes.carries(p, processes.SERVICE, "s3")], _STOP_SECONDS)
    processes.stop(processes.of_stack(stack_id), _STOP_SECONDS)
    if left := processes.of_stack(stack_id):
        raise StackError(f"process {left[0].pid} does not end; stop it by hand (kill -9 {left[0].pid}), then run this again")
    state = _read_state()
    components.delete_sockets(port_base or (state["port_base"] if state else PORT_BASE))
    settings.stack_file().unlink(missing_ok=True)


def _running(state: dict[str, Any], name: str) -> psutil.Process | None:
    """The process of a service; its number alone may by now be somebody else's."""
    try:
        process = psutil.Process(state["services"][name]["pid"])
    except psutil.Error:
        return None
    same = processes.is_alive(process) and processes.carries(process, processes.STACK_ID, state["id"])
    return process if same else None


def _read_state() -> dict[str, Any] | None:
    try:
        state = json.loads(settings.stack_file().read_text())
        return state if {"id", "port_base", "services"} <= set(state) else None
    except (FileNotFoundError, ValueError, TypeError):
        return None  # processes are found without it
    except OSError as error:
        raise StackError(f"{settings.stack_file()} cannot be read ({error.strerror}); correct its owner") from error


def _stack_id() -> str:
    """One per home, so that processes are found even when an ``up`` was killed before it wrote anything."""
    return hashlib.sha256(os.fsencode(settings.home().resolve())).hexdigest()[:16]


@contextmanager
def _lock() -> Iterator[None]:
    from filelock import FileLock, Timeout

    path = settings.home() / "stack.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, timeout=2 * _START_SECONDS)
        lock.acquire()
    except Timeout as error:
        raise StackError(f"another 'adjobs up' or 'adjobs down' has held {path} for minutes; look what it does") from error
    except OSError as error:
        raise StackError(f"{path} cannot be written ({error.strerror}); set ADJOBS_HOME to another place") from error
    try:
        yield
    finally:
        lock.release()
