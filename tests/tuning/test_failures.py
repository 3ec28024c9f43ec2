"""How errors are read: texts of Ray that are pinned, and one that Ray itself writes when it kills for memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from adjobs.errors import ClusterError
from adjobs.tuning.failures import FailureKind, classify_error, is_out_of_memory

TRACEBACK = "Failure # 1\n\x1b[36mray::ImplicitFunc.train()\x1b[39m (pid=1)\n  File x\n"
# What Ray 2.60 appends to the end of any process that it lost.
LOST = (
    "Failure # 1\nThe actor died unexpectedly before finishing this task.\nThe actor is dead because its worker process has "
    "died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker unexpectedly exits with a connection error code 2. End of "
    "file. Some common causes include: (1) the process was killed by the OOM killer due to high memory usage, (2) ray stop "
    "--force was called, or (3) the worker crashed unexpectedly due to SIGSEGV or another unexpected error."
)
KILLED_FOR_MEMORY = (
    "Failure # 1\n1 worker(s) were killed due to the node running low on memory. Memory on the node was 7.70GB used / 8.00GB "
    "limit (0.96)\nTop 10 memory users: PID\tMEM(GB)\tCOMMAND\n410\t0.84\tray::ImplicitFunc.train"
)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (f"{TRACEBACK}RuntimeError: shapes differ", FailureKind.EXCEPTION),
        (f"{TRACEBACK}adjobs.errors.TrackingError: MLflow: no answer", FailureKind.PROCESS_LOST),
        ("Failure # 1\nThe actor died unexpectedly before finishing this task.", FailureKind.PROCESS_LOST),
        ("Failure # 1\nThe actor c3 is unavailable: RPC error: keepalive watchdog timeout", FailureKind.PROCESS_LOST),
        (LOST, FailureKind.PROCESS_LOST),
        (KILLED_FOR_MEMORY, FailureKind.OUT_OF_MEMORY),
    ],
)
def test_classify_error_separates_exceptions_from_lost_processes(text, kind):
    assert classify_error(text) == kind


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), True),
        (ClusterError("training failed on worker 0: OutOfMemoryError: killed"), True),
        (RuntimeError("shapes differ"), False),
    ],
)
def test_is_out_of_memory_knows_types_and_texts(error, expected):
    assert is_out_of_memory(error) is expected


# A Ray of its own, whose limit is 512 MiB above what is in use. Its processes take most of that, and then a trial and an actor
# grow by up to 768 MiB each, so that Ray's memory monitor kills them: the actor while Tune starts, then the trial.
LET_RAY_KILL = """
import json, os, sys, time
from pathlib import Path

from ray._common.utils import get_system_memory
from ray._private.utils import get_used_memory

limit = (get_used_memory() + (512 << 20)) / get_system_memory()
os.environ |= {"RAY_memory_monitor_refresh_ms": "50", "RAY_memory_usage_threshold": str(limit)}

import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler

texts = {"trial": None, "actor": None}

class Scheduler(FIFOScheduler):
    def on_trial_error(self, controller, trial):
        texts["trial"] = Path(trial.error_file).read_text()
        super().on_trial_error(controller, trial)

def grow(config=None):
    chunks = []
    for _ in range(12):
        chunks.append(b"x" * (64 << 20))
        time.sleep(0.05)
    time.sleep(2)

quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
ray.init(address="local", num_cpus=1, object_store_memory=80 << 20, **quiet)

@ray.remote(max_restarts=0, num_cpus=0)
class Actor:
    def grow(self):
        grow()

actor = Actor.remote()
growing = actor.grow.remote()
run_config = tune.RunConfig(storage_path=sys.argv[1], verbose=0)
tune.Tuner(grow, tune_config=tune.TuneConfig(scheduler=Scheduler()), run_config=run_config).fit()
try:
    ray.get(growing)
except ray.exceptions.RayError as error:
    texts["actor"] = f"{type(error).__name__}: {error}"
print("\\n" + json.dumps(texts))
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> dict[str, str]:
    """What Ray Tune wrote of a trial, and Ray of an actor, that Ray's memory monitor killed."""
    if not Path("/proc/meminfo").exists():
        pytest.skip("Ray's memory monitor needs /proc/meminfo")
    hidden = ("RAY_ADDRESS", "RAY_memory_monitor_refresh_ms", "RAY_memory_usage_threshold")
    env = {name: value for name, value in os.environ.items() if name not in hidden}
    env |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1"}
    command = [sys.executable, "-c", LET_RAY_KILL, str(tmp_path_factory.mktemp("tune"))]
    process = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert process.returncode == 0, process.stderr[-3000:]
    texts = json.loads(process.stdout.splitlines()[-1])
    if None in texts.values():
        pytest.skip("Ray's memory monitor did not kill: other processes freed memory, or it sees another limit")
    return texts


@pytest.mark.slow
def test_classify_error_trial_killed_by_ray_is_out_of_memory(killed):
    assert classify_error(killed["trial"]) == FailureKind.OUT_OF_MEMORY, killed["trial"]


@pytest.mark.slow
def test_is_out_of_memory_worker_killed_by_ray_is(killed):
    assert is_out_of_memory(ClusterError(f"training failed on worker 0: {killed['actor']}")), killed["actor"]
