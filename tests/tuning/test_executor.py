"""What a trial asks Ray for, and how its end is read."""

from __future__ import annotations

import pytest

from adjobs.training.cluster import Share
from adjobs.tuning.executor import Room, _of_the_program

CPU = Room(Share(2, 0.0), most=4, workers=1, gpu_mib=0.0, context_mib=0.0, node_mib=8000)
GPU = Room(Share(1, 1.0), most=8, workers=1, gpu_mib=80_000, context_mib=500, node_mib=8000)


def test_on_processors_the_measured_memory_is_asked_for():
    assert CPU.share(None, alone=False) == {"CPU": 2}
    assert CPU.share(1000, alone=False) == {"CPU": 2, "memory": 1152 * 2**20}  # 15 % more, in steps of 64 MiB
    assert CPU.share(1000, alone=True) == {"CPU": 2}
    assert CPU.share(9000, alone=False)["memory"] == 8000 * 2**20  # more than any node has would wait for ever
    assert not CPU.crowded


def test_on_gpus_the_measured_part_is_asked_for():
    assert GPU.share(None, alone=False) == {"CPU": 1, "GPU": 1.0}
    assert GPU.share(10_000, alone=False) == {"CPU": 1, "GPU": 0.16}  # 15 % more than 10,500, of 80,000, rounded up
    assert GPU.share(75_000, alone=False) == {"CPU": 1, "GPU": 1.0}
    assert GPU.share(10_000, alone=True) == {"CPU": 1, "GPU": 1.0}
    assert GPU.crowded


def test_a_trial_that_waits_for_its_workers_takes_no_processor():
    room = Room(Share(1, 0.0), most=1, workers=2, gpu_mib=0.0, context_mib=0.0, node_mib=8000)
    assert "CPU" not in room.share(None, alone=False)
    assert room.crowded


@pytest.mark.parametrize(
    ("text", "program"),
    [
        ("Failure # 1\n\x1b[36mray::ImplicitFunc.train()\x1b[39m (pid=1)\n  File x\nRuntimeError: shapes differ", True),
        ("Failure # 1\nray::ImplicitFunc.train() (pid=1)\n  File x\nadjobs.errors.TrackingError: MLflow: no answer", False),
        ("Failure # 1\nThe actor died unexpectedly before finishing this task.", False),
        ("Failure # 1\nThe actor c3 is unavailable: RPC error: keepalive watchdog timeout", False),
    ],
)
def test_an_exception_comes_again_and_a_lost_process_or_service_may_not(text, program):
    assert _of_the_program(text) is program
