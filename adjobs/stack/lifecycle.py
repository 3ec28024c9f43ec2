"""The embedded stack: ``up``, ``down`` and ``status`` of S3, MLflow, Ray and the queue on this machine.

Made of pip packages alone, it offers what a production cluster has. Data and secrets stay in the user's folder when it stops.
Every program of this user can use it. Other users of the machine can connect to its ports, but they have none of the secrets for
which these ask; what they see without is listed in docs/guides/stack.md.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil

from adjobs.config.settings import stack_file
from adjobs.errors import StackError
from adjobs.stack import components, credentials, processes
from adjobs.stack.answers import answering
from adjobs.stack.components import Service
from adjobs.stack.config import OFFSETS, StackConfig, client_environment
from adjobs.stack.sockets import delete_sockets
from adjobs.stack.state import ServiceRecord, ServiceStatus, StackState, StackStatus, StopResult
from adjobs.waits import waiting_for

PORT_BASE = 18200
_START_SECONDS = 180  # MLflow took 34 s on a busy machine with two cores
_JOB_STOP_SECONDS = 10  # for the drivers of jobs, to close their runs
_STOP_SECONDS = 15
_PORT_SECONDS = 20  # for the ports of what had crashed
_STOPPED_PORT_SECONDS = 5  # for those of what may have been stopped a moment ago

_log = logging.getLogger("adjobs.stack")


def up(home: Path, port_base: int = PORT_BASE, cpus: int | None = None, slots: int = 1) -> StackState:
    """Start the stack, or leave it as it is when all of it runs.

    If only the queue is missing, it is started again; if another service is, what runs is stopped first.

    Args:
        home: folder of the user, see :class:`adjobs.config.settings.Settings`; there is one stack for each.
        port_base: first port of the block; see :mod:`adjobs.stack.config`.
        cpus: CPUs that Ray may give to jobs; None: all.
        slots: queued jobs that run at once.

    Raises:
        StackError: a port is in use, or a program is missing or exited; then nothing is left running.
    """
    highest = 65535 - max(OFFSETS.values())
    if not 1024 <= port_base <= highest:
        raise StackError(f"--port-base: got {port_base}; must be between 1024 and {highest}")
    with _lock(home):
        state = StackState.read(home)
        missing = [name for name in state.services if not _find_process(state, name)] if state else None
        if state and not missing:
            return state
        config = StackConfig(_stack_id(home), home, port_base, cpus, slots, credentials.load(home / "credentials"))
        if state and missing == ["queue"] and state.port_base == port_base:  # jobs that run go on meanwhile
            return _restart_queue(state, config)
        _stop_everything(home)
        ports = {title: config.port(title) for title in OFFSETS}
        with waiting_for("waiting for the ports of what ran before"):
            processes.check_ports(ports, _PORT_SECONDS if state else _STOPPED_PORT_SECONDS)
        try:
            state = _start(config)
            state.write(home)
        except BaseException as error:  # Ctrl-C, too, leaves nothing behind
            try:
                if isinstance(error, StackError):
                    processes.check_not_taken(ports, processes.stack_processes(config.stack_id))
            finally:
                _log.info("stopping what was started ...")
                _stop_everything(home, port_base)
            raise
        return state


def down(home: Path) -> StopResult:
    """Stop every process of the stack, jobs first and S3 last; it is no error if nothing runs.

    Raises:
        StackError: a process does not end.
    """
    with _lock(home):
        count = len(processes.stack_processes(_stack_id(home)))
        if count:
            _log.info("stopping %d processes ...", count)
        _stop_everything(home)
    return StopResult(count)


def status(home: Path) -> StackStatus:
    """Which services run, on which ports, and which of them answer.

    Raises:
        StackError: the record of the stack cannot be read.
    """
    state = StackState.read(home)
    if state is None:
        return StackStatus(running=False, port_base=None, services={})
    running = {name: process for name in state.services if (process := _find_process(state, name))}
    confirmed = answering(state, running)
    services = {
        name: _service_status(record, running.get(name), answers=name in confirmed) for name, record in state.services.items()
    }
    return StackStatus(all(service.answers for service in services.values()), state.port_base, services)


def is_running(home: Path) -> bool:
    """Whether all services run; whether they answer is not asked.

    Raises:
        StackError: the record of the stack cannot be read.
    """
    state = StackState.read(home)
    return state is not None and all(_find_process(state, name) for name in state.services)


def _service_status(record: ServiceRecord, process: psutil.Process | None, *, answers: bool) -> ServiceStatus:
    memory = None if process is None else processes.memory_bytes(process)
    uptime = None if process is None else round(time.time() - process.create_time(), 1)
    return ServiceStatus(process is not None, answers, record.pid, record.port, record.url, record.log, memory, uptime)


def _start(config: StackConfig) -> StackState:
    """Start the services side by side: each spends most of its start on one core, or waiting. The queue needs S3 and Ray."""
    logs = credentials.private_folder(config.home / "logs")
    records: dict[str, ServiceRecord] = {}
    waiting: dict[str, tuple[Service, subprocess.Popen[bytes]]] = {}

    def start(service: Service) -> None:
        log = logs / f"{service.name}.log"
        process = processes.start(service.command, service.environment, service.folder, log)
        waiting[service.name] = service, process
        records[service.name] = ServiceRecord(process.pid, service.port, service.url, str(log))

    def wait(*names: str) -> None:
        for name in names:
            service, process = waiting.pop(name)
            with waiting_for(f"waiting for {service.title}"):
                processes.wait_until(service.ready, process, service.title, logs / f"{name}.log", _START_SECONDS)

    _log.info("starting S3, MLflow, Ray and the queue ...")
    start(components.s3(config))
    start(components.ray(config))
    _migrate(config, logs / "mlflow-migration.log")
    start(components.mlflow(config))
    wait("s3", "ray")
    start(components.queue(config))
    wait("mlflow", "queue")
    credentials.write_private(*_mlflow_stamp(config))
    services = {name: records[name] for name in ("s3", "mlflow", "ray", "queue")}
    return StackState(config.stack_id, config.port_base, client_environment(config), services)


def _restart_queue(state: StackState, config: StackConfig) -> StackState:
    """Start the queue of a stack whose other services run."""
    _log.info("starting the queue again ...")
    service, log = components.queue(config), credentials.private_folder(config.home / "logs") / "queue.log"
    processes.check_ports({"Queue": service.port}, _PORT_SECONDS)
    process = processes.start(service.command, service.environment, service.folder, log)
    processes.wait_until(service.ready, process, service.title, log, _START_SECONDS)
    record = ServiceRecord(process.pid, service.port, service.url, str(log))
    state = replace(state, services={**state.services, "queue": record})
    state.write(config.home)
    return state


def _migrate(config: StackConfig, log: Path) -> None:
    """Upgrade a database that another version of MLflow made to the installed one; the server makes a new one itself.

    Only one process may do this, and before others open it: several at once would damage it for good.
    """
    stamp, version = _mlflow_stamp(config)
    if not (stamp.parent / "mlflow.db").exists() or (stamp.exists() and stamp.read_text() == version):
        return
    _log.info("upgrading MLflow's database to the installed version ...")
    command, environment = components.mlflow_migration(config)
    process = processes.start(command, environment, stamp.parent, log)
    try:
        exit_status = process.wait(_START_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise StackError(f"MLflow's database is not ready after {_START_SECONDS} s; see {log}") from error
    if exit_status:
        raise StackError(f"MLflow's database cannot be upgraded: {processes.last_error_line(log)}; see {log}")


def _mlflow_stamp(config: StackConfig) -> tuple[Path, str]:
    """The file that says which version of MLflow the database fits, and the version that is installed."""
    return config.data_folder("mlflow") / "version", importlib.metadata.version("mlflow")


def _stop_everything(home: Path, port_base: int | None = None) -> None:
    """Stop the processes of a home, and delete what they leave.

    Args:
        home: folder of the user.
        port_base: where processes were started that no record names yet.

    Raises:
        StackError: a process does not end.
    """
    stack_id = _stack_id(home)
    # The dispatcher before all others: it would start new attempts of what ends.
    processes.stop(
        [p for p in processes.stack_processes(stack_id) if processes.has_env(p, processes.SERVICE, "queue")], _STOP_SECONDS
    )
    # Drivers of jobs then, while MLflow and S3 still accept their last records; S3 last.
    drivers = [p for p in processes.stack_processes(stack_id) if processes.has_env(p, "RAY_JOB_CONFIG_JSON_ENV_VAR")]
    processes.stop(drivers, _JOB_STOP_SECONDS)
    others = [p for p in processes.stack_processes(stack_id) if not processes.has_env(p, processes.SERVICE, "s3")]
    processes.stop(others, _STOP_SECONDS)
    processes.stop(processes.stack_processes(stack_id), _STOP_SECONDS)
    if alive := processes.stack_processes(stack_id):
        pid = alive[0].pid
        raise StackError(f"process {pid} does not end; stop it by hand (kill -9 {pid}), then run this command again")
    state = StackState.read(home)
    bases = {port_base, state.port_base if state else None}
    for base in bases:
        if base is not None:
            delete_sockets(base)
    stack_file(home).unlink(missing_ok=True)


def _find_process(state: StackState, name: str) -> psutil.Process | None:
    """The process of a service, if it runs; its number alone may by now belong to another program."""
    try:
        process = psutil.Process(state.services[name].pid)
    except psutil.Error:
        return None
    is_same = processes.is_alive(process) and processes.has_env(process, processes.STACK_ID, state.id)
    return process if is_same else None


def _stack_id(home: Path) -> str:
    """One per home, so that processes are found even when an ``up`` was killed before it wrote its record."""
    return hashlib.sha256(os.fsencode(home.resolve())).hexdigest()[:16]


@contextmanager
def _lock(home: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    path = home / "stack.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, timeout=2 * _START_SECONDS)
        lock.acquire()
    except Timeout as error:
        raise StackError(f"another 'adjobs up' or 'adjobs down' has held {path} for minutes; check what it is doing") from error
    except OSError as error:
        raise StackError(f"{path} cannot be written ({error.strerror}); set ADJOBS_HOME to another folder") from error
    try:
        yield
    finally:
        lock.release()
