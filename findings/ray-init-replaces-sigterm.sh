# ray.init replaces the process's handler of SIGTERM by one that exits at once with status 15, whether it starts a cluster or joins one.
#
# Expected: a library leaves the handler that a program has set for SIGTERM, or calls it.
# Happens:  after ray.init the handler is Ray's own, which calls sys.exit(15) and writes a native stack trace to standard error. The
#           program's is never called. SIGINT keeps its handler. Set again after ray.init, the program's handler works as before.
# Versions: ray 2.60.0.
# Hurts:    programs that close their runs, save a checkpoint or answer open requests on SIGTERM, which is what Kubernetes, Slurm
#           and systemd send first: a run stays open in MLflow, and a server stops amid its answers.
# adjobs:   sets the handler again after ray.init, in training/backends/ray.py. Elsewhere: call signal.signal, or
#           loop.add_signal_handler, after ray.init.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile 'ray==2.60.0'
cd "$work"
unset RAY_ADDRESS RAY_API_SERVER_ADDRESS
export RAY_AUTH_MODE=disabled RAY_USAGE_STATS_ENABLED=0
export RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 # every socket on 127.0.0.1
cat >program.py <<'PYTHON'
import os
import signal
import sys
import time

import ray

address, signal_name, when = sys.argv[1:]
number = getattr(signal, signal_name)


def handler(*arguments):
    print("own handler")


if when == "before":
    signal.signal(number, handler)
options = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 100_000_000} if address == "local" else {}
ray.init(address=address, log_to_driver=False, **options)
if when == "after":
    signal.signal(number, handler)
os.kill(os.getpid(), number)
time.sleep(1)
print("went on")
PYTHON
HOME=$work venv/bin/python -W ignore - 2>"$work/log" <<'PYTHON' || { tail -n 20 "$work/log"; exit 1; }
import subprocess
import sys

import ray


def check(what, seen, known):
    print(f"{what}: {seen}", flush=True)
    if seen != known:
        raise SystemExit(f"changed: it was {known}")


def run(*arguments):
    """What a program that gets a signal prints, and its exit status."""
    done = subprocess.run([sys.executable, "-W", "ignore", "program.py", *arguments], stdout=subprocess.PIPE, text=True)
    return (*done.stdout.split("\n")[:-1], done.returncode)


print("ray", ray.__version__, flush=True)
cluster = ray.init(address="local", num_cpus=1, include_dashboard=False, object_store_memory=100_000_000, log_to_driver=False)
for name, address in (("starts a cluster", "local"), ("joins a cluster", cluster.address_info["gcs_address"])):
    check(f"{name}, handler set before ray.init, SIGTERM", run(address, "SIGTERM", "before"), (15,))
    check(f"{name}, handler set before ray.init, SIGINT", run(address, "SIGINT", "before"), ("own handler", "went on", 0))
    check(f"{name}, handler set after ray.init, SIGTERM", run(address, "SIGTERM", "after"), ("own handler", "went on", 0))
ray.shutdown()
PYTHON
