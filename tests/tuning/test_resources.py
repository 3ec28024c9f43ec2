"""What a trial requests from Ray."""

from __future__ import annotations

from adjobs.training.resources import WorkerResources
from adjobs.tuning.resources import TrialResources

CPU = TrialResources(WorkerResources(2, 0.0), max_concurrent=4, workers=1, gpu_mib=0.0, context_mib=0.0, node_mib=8000)
GPU = TrialResources(WorkerResources(1, 1.0), max_concurrent=8, workers=1, gpu_mib=80_000, context_mib=500, node_mib=8000)


def test_for_trial_on_cpus_requests_the_measured_memory():
    assert CPU.for_trial(None, exclusive=False) == {"CPU": 2}
    assert CPU.for_trial(1000, exclusive=False) == {"CPU": 2, "memory": 1152 * 2**20}  # 15 % more, in steps of 64 MiB
    assert CPU.for_trial(1000, exclusive=True) == {"CPU": 2}
    assert CPU.for_trial(9000, exclusive=False)["memory"] == 8000 * 2**20  # with more than any node has it would wait forever
    assert not CPU.exclusive_device


def test_for_trial_on_gpus_requests_the_measured_share():
    assert GPU.for_trial(None, exclusive=False) == {"CPU": 1, "GPU": 1.0}
    assert GPU.for_trial(10_000, exclusive=False) == {"CPU": 1, "GPU": 0.16}  # 15 % more than 10,500, of 80,000, rounded up
    assert GPU.for_trial(75_000, exclusive=False) == {"CPU": 1, "GPU": 1.0}
    assert GPU.for_trial(10_000, exclusive=True) == {"CPU": 1, "GPU": 1.0}
    assert GPU.exclusive_device


def test_for_trial_with_workers_requests_no_processor_for_itself():
    resources = TrialResources(WorkerResources(1, 0.0), max_concurrent=1, workers=2, gpu_mib=0.0, context_mib=0.0, node_mib=8000)
    assert "CPU" not in resources.for_trial(None, exclusive=False)
    assert resources.exclusive_device
