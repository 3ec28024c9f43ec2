"""Processes of the embedded stack: starting them, finding every one again, stopping them, and what their logs say.

Each process is started with ``ADJOBS_STACK_ID`` in its environment. Children inherit it (Ray's workers, the drivers of
jobs), so that all of a stack can be found without knowing who started what, and nothing of another stack is touched.
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

# Python warns when a process object goes away before its process; ours are meant to stay.
resolve_warm_start: list[subprocess.Popen[bytes]] = []


def start(command: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start a process that outlives this one; the log of the time before stays beside it with the suffix ``.1``.

    Raises:
        StackError: the program or a folder cannot be used.
    """
    try:
        if log.exists():
            log.replace(log.with_name(log.name + ".1"))
        with log.open("wb") as file:
            # umask: SeaweedFS and Ray make sockets and files that others could use. A session of its own: Ctrl-C in
            # the terminal is not for the stack.
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
    resolve_warm_start.append(process)
    return process


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], title: str, log: Path, seconds: float) -> None:
    """Wait until a service answers.

    Raises:
        StackError: it ended or did not answer in time; the message has the essence of its log.
    """
    deadline = time.monotonic() + seconds
    while not ready():
        ended = process.poll() is not None
        if ended or time.monotonic() > deadline:
            how = f"ended with status {process.returncode}" if ended else f"does not answer after {seconds:g} s"
            raise StackError(f"{title} {how}: {essence(log)}; see {log}")
        time.sleep(0.1)


def essence(log: Path) -> str:
    """The line of a log that most likely says what went wrong.

    Raises:
        OSError: the log cannot be read.
    """
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 65536))
        text = re.sub(r"\x1b\[[0-9;]*m", "", file.read().decode(errors="replace"))
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["it wrote nothing"]
    for pattern in (r"^[\w.]*(Error|Exception)\b", r"(?i)^F\d|\b(fatal|panic|error|failed|cannot|in use)\b"):
        if found := [line for line in lines if re.search(pattern, line)]:
            return one_line(Exception(found[-1]))
    return one_line(Exception(lines[-1]))


def check_ports(ports: Mapping[str, int]) -> None:
    """Check that every port is free on the loopback address.

    Raises:
        StackError: one is in use; the message says by whom, where that can be seen.
    """
    for title, port in ports.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that have just ended do not count
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                raise StackError(
                    f"port {port} ({title}) is in use by {_holder(port)}; stop that, or choose other ports with --port-base"
                ) from error


def _holder(port: int) -> str:
    for process in psutil.process_iter(["name"]):
        try:
            if any(c.laddr and c.laddr.port == port for c in process.net_connections("tcp")):
                return f"{process.info['name']} (process {process.pid})"
        except psutil.Error:
            continue
    return "a process of another user"


def of_stack(stack_id: str) -> list[psutil.Process]:
    """Every process of this user that carries the id, and their descendants; never this process."""
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        try:
            if process.uids().real == os.getuid() and process.environ().get(STACK_ID) == stack_id:
                # A process that sets its title may overwrite its environment; its parent still has it.
                found |= {one.pid: one for one in (process, *process.children(recursive=True))}
        except psutil.Error:
            continue
    found.pop(os.getpid(), None)
    return [process for process in found.values() if is_alive(process)]


def carries(process: psutil.Process, name: str, value: str | None = None) -> bool:
    """Whether a process has a variable in its environment, with this value if one is given."""
    try:
        got = process.environ().get(name)
    except psutil.Error:
        return False
    return got is not None if value is None else got == value


def is_alive(process: psutil.Process) -> bool:
    """Whether it runs; one that has ended and that nobody has waited for does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def stop(processes: Iterable[psutil.Process], seconds: float) -> None:
    """Ask processes to end, parents before children, because parents end their children in order; then kill the rest."""
    alive, asked = list(processes), set[int]()
    deadline = time.monotonic() + seconds
    while (alive := _alive(alive)) and time.monotonic() < deadline:
        pids = {process.pid for process in alive}
        for process in alive:
            if process.pid not in asked and _parent(process) not in pids:
                _signal(process.terminate)
                asked.add(process.pid)
        time.sleep(0.05)
    for process in alive:
        _signal(process.kill)
    deadline = time.monotonic() + 5
    while alive := _alive(alive):
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)


def _alive(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    for child in resolve_warm_start:
        child.poll()  # takes note of its end, so that it does not stay as a zombie
    resolve_warm_start[:] = [child for child in resolve_warm_start if child.returncode is None]
    return [process for process in processes if is_alive(process)]


def _parent(process: psutil.Process) -> int:
    try:
        return process.ppid()
    except psutil.Error:
        return 0


def _signal(send: Callable[[], None]) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        send()


def memory(process: psutil.Process) -> int:
    """Bytes used by a process and its descendants; memory that they share is counted once where the system tells."""
    total = 0
    for one in (process, *process.children(recursive=True)):
        try:
            full = one.memory_full_info()
            total += getattr(full, "pss", full.rss)
        except psutil.Error:
            continue
    return total
