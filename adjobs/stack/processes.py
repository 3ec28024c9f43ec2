"""Processes of the embedded stack: starting, finding and stopping them, and what their logs say.

Each process is started with ``ADJOBS_STACK_ID`` in its environment. Children inherit it (Ray's workers, the drivers of
jobs), so that all processes of a stack can be found however they were started, and no process of another stack is touched.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import psutil

from adjobs.errors import StackError, one_line

STACK_ID = "ADJOBS_STACK_ID"
SERVICE = "ADJOBS_STACK_SERVICE"
_OTHER_PORTS = "stop that, or choose other ports with --port-base"

# Python warns when a process object goes away before its process; ours are meant to stay.
_children: list[subprocess.Popen[bytes]] = []


def start(command: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start a process that outlives this one; the log of its last start stays beside it with the suffix ``.1``.

    Raises:
        StackError: the program or a folder cannot be used.
    """
    try:
        if log.exists():
            log.replace(log.with_name(log.name + ".1"))
        with log.open("wb") as file:
            # umask: SeaweedFS and Ray make sockets and files that others could use. A session of its own: Ctrl-C in
            # the terminal does not reach the stack.
            process = subprocess.Popen(
                command,
                env=dict(environment),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                umask=0o077,
            )
    except OSError as error:
        raise StackError(f"{command[0]} cannot be started ({error}); check that it is installed and {log} writable") from error
    _children.append(process)
    return process


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], title: str, log: Path, seconds: float) -> None:
    """Wait until a service answers.

    Raises:
        StackError: it exited or did not answer in time; the message quotes the line of its log that says why.
    """
    deadline = time.monotonic() + seconds
    while not ready():
        has_exited = process.poll() is not None
        if has_exited or time.monotonic() > deadline:
            outcome = f"exited with status {process.returncode}" if has_exited else f"did not answer within {seconds:g} s"
            raise StackError(f"{title} {outcome}: {last_error_line(log)}; see {log}")
        time.sleep(0.1)


def last_error_line(log: Path) -> str:
    """The line of a log that most likely says what went wrong: the last that names an error, else the last.

    Raises:
        OSError: the log cannot be read.
    """
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 65536))
        text = re.sub(r"\x1b\[[0-9;]*m", "", file.read().decode(errors="replace"))
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["its log is empty"]
    for pattern in (r"^[\w.]*(Error|Exception)\b", r"(?i)^F\d|\b(fatal|panic|error|failed|cannot|in use)\b"):
        if matching := [line for line in lines if re.search(pattern, line)]:
            return one_line(Exception(matching[-1]))
    return one_line(Exception(lines[-1]))


def check_ports(ports: Mapping[str, int], patience: float = 0.0) -> None:
    """Check that every port is free on the loopback address.

    Args:
        ports: by the service's title.
        patience: seconds in which one that belongs to no process may become free; the system closes those of a process that has
            ended after a while.

    Raises:
        StackError: one is in use; the message names the process, where the system tells.
    """
    deadline = time.monotonic() + patience
    for title, port in ports.items():
        while (error := _bind_error(port)) is not None:
            owner = _port_owner(port)
            if owner is not None or time.monotonic() > deadline:
                owner = owner or "a process of another user"
                raise StackError(f"port {port} ({title}) is in use by {owner}; {_OTHER_PORTS}") from error
            time.sleep(0.2)


def check_not_taken(ports: Mapping[str, int], own: Iterable[psutil.Process]) -> None:
    """Check that no other process has taken a port since ``check_ports``, such as a client for its end of a connection.

    Args:
        ports: by the service's title.
        own: the processes that may have them.

    Raises:
        StackError: one has.
    """
    titles, pids = {port: title for title, port in ports.items()}, {process.pid for process in own}
    for process in psutil.process_iter(["name"]):
        with contextlib.suppress(psutil.Error):
            taken = [c.laddr.port for c in process.net_connections("tcp") if c.laddr and c.laddr.port in titles]
            if taken and process.pid not in pids:
                owner = f"{process.info['name']} (process {process.pid})"
                raise StackError(f"port {taken[0]} ({titles[taken[0]]}) was taken by {owner} meanwhile; {_OTHER_PORTS}")


def _bind_error(port: int) -> OSError | None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that have just ended do not count
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return error
    return None


def _port_owner(port: int) -> str | None:
    """The process that has a port; None if this user sees none."""
    for process in psutil.process_iter(["name"]):
        try:
            if any(c.laddr and c.laddr.port == port for c in process.net_connections("tcp")):
                return f"{process.info['name']} (process {process.pid})"
        except psutil.Error:
            continue
    return None


def stack_processes(stack_id: str) -> list[psutil.Process]:
    """Every process of this user that has the id in its environment, and their descendants.

    Never this process, nor one of another stack, which a job of this one may have started.
    """
    by_pid: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        try:
            if process.uids().real == os.getuid() and process.environ().get(STACK_ID) == stack_id:
                # A process that sets its title may overwrite its environment; its parent still has it.
                by_pid |= {member.pid: member for member in (process, *process.children(recursive=True))}
        except psutil.Error:
            continue
    for member in list(by_pid.values()):
        if has_env(member, STACK_ID) and not has_env(member, STACK_ID, stack_id):
            by_pid.pop(member.pid)
    by_pid.pop(os.getpid(), None)
    return [process for process in by_pid.values() if is_alive(process)]


def has_env(process: psutil.Process, name: str, value: str | None = None) -> bool:
    """Whether a process has a variable in its environment, with this value if one is given."""
    try:
        actual = process.environ().get(name)
    except psutil.Error:
        return False
    return actual is not None if value is None else actual == value


def is_alive(process: psutil.Process) -> bool:
    """Whether it runs; a zombie does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def stop(processes: Iterable[psutil.Process], seconds: float) -> None:
    """Terminate processes, parents first, because they stop their children in order; kill those left after ``seconds``."""
    alive, terminated = list(processes), set[int]()
    deadline = time.monotonic() + seconds
    while (alive := _alive(alive)) and time.monotonic() < deadline:
        pids = {process.pid for process in alive}
        for process in alive:
            if process.pid not in terminated and _parent(process) not in pids:
                _signal(process.terminate)
                terminated.add(process.pid)
        time.sleep(0.05)
    for process in alive:
        _signal(process.kill)
    deadline = time.monotonic() + 5
    while alive := _alive(alive):
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)


def _alive(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    for child in _children:
        child.poll()  # reaps it, so that it does not stay as a zombie
    _children[:] = [child for child in _children if child.returncode is None]
    return [process for process in processes if is_alive(process)]


def _parent(process: psutil.Process) -> int:
    try:
        return process.ppid()
    except psutil.Error:
        return 0


def _signal(send: Callable[[], None]) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        send()


def memory_bytes(process: psutil.Process) -> int:
    """Memory of a process and its descendants; what they share is counted once where the system says how much that is."""
    total = 0
    for member in (process, *process.children(recursive=True)):
        try:
            info = member.memory_full_info()
            total += getattr(info, "pss", info.rss)
        except psutil.Error:
            continue
    return total
