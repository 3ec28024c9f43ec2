"""What becomes of a trial that goes wrong, and what it is said to need."""

from __future__ import annotations

import mmap
from types import SimpleNamespace

import pytest
import torch
from ray import tune

from adjobs.errors import ClusterError, DataError
from adjobs.training.backends.ray import _cause
from adjobs.tuning import trial


class TrainingFailedError(Exception):
    """As Ray Train raises it: by worker, what it died of."""

    def __init__(self, failure: Exception) -> None:
        super().__init__("training failed")
        self.worker_failures = {0: failure}


class OutOfMemoryError(Exception):
    """Ray's, of a worker that it killed."""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "memory"),
        (torch.OutOfMemoryError("CUDA out of memory"), "memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), "memory"),
        (_cause(TrainingFailedError(torch.OutOfMemoryError("CUDA out of memory"))), "memory"),
        (_cause(TrainingFailedError(OutOfMemoryError("Task was killed due to the node running low on memory."))), "memory"),
        (_cause(TrainingFailedError(ValueError("shapes differ"))), "refused"),
        (ClusterError("worker 1 sees other data"), "refused"),
        (DataError("the training part lacks anomalies"), "refused"),
    ],
)
def test_what_a_trial_says_of_its_failure(error, said, monkeypatch):
    def fail(order: object) -> None:
        raise error

    reports = []
    monkeypatch.setattr(trial, "_here", fail)
    monkeypatch.setattr(tune, "report", reports.append)
    trial.run({"order": SimpleNamespace(task=SimpleNamespace(job=SimpleNamespace(train=SimpleNamespace(workers=1))))})
    assert [list(report) for report in reports] == [[said]]


def test_a_mistake_of_the_program_is_raised(monkeypatch):
    def fail(order: object) -> None:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(trial, "_here", fail)
    with pytest.raises(RuntimeError, match="shapes differ"):
        trial.run({"order": SimpleNamespace(task=SimpleNamespace(job=SimpleNamespace(train=SimpleNamespace(workers=1))))})


def test_memory_is_that_of_this_trial_and_maps_of_files_are_nobody_s_own(tmp_path):
    cpu, path = torch.device("cpu"), tmp_path / "large"
    path.write_bytes(bytes(300 << 20))
    torch.ones(600 << 20, dtype=torch.uint8)  # of an earlier trial, and freed
    trial._fresh(cpu)
    before = trial.peak_memory_mib(cpu)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert sum(mapped[:: mmap.PAGESIZE]) == 0
        assert trial.peak_memory_mib(cpu) < before + 100
    torch.ones(400 << 20, dtype=torch.uint8)
    assert trial.peak_memory_mib(cpu) == pytest.approx(before + 400, abs=100)
