"""What a trial reports of its failure, and which memory is counted."""

from __future__ import annotations

import mmap
from types import SimpleNamespace

import pytest
import torch
from ray import tune

from adjobs.errors import ClusterError, DataError
from adjobs.training.backends.ray import _cause
from adjobs.training.device import peak_memory_mib
from adjobs.tuning import trial

SPEC = SimpleNamespace(task=SimpleNamespace(job=SimpleNamespace(train=SimpleNamespace(min_workers=1))))


class TrainingFailedError(Exception):
    """As Ray Train raises it: with the error of each worker."""

    def __init__(self, failure: Exception) -> None:
        super().__init__("training failed")
        self.worker_failures = {0: failure}


class OutOfMemoryError(Exception):
    """Ray's, of a worker that it killed."""


@pytest.mark.parametrize(
    ("error", "key"),
    [
        (MemoryError(), "out_of_memory"),
        (torch.OutOfMemoryError("CUDA out of memory"), "out_of_memory"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
            "out_of_memory",
        ),
        (_cause(TrainingFailedError(torch.OutOfMemoryError("CUDA out of memory"))), "out_of_memory"),
        (
            _cause(TrainingFailedError(OutOfMemoryError("Task was killed due to the node running low on memory."))),
            "out_of_memory",
        ),
        (_cause(TrainingFailedError(ValueError("shapes differ"))), "error"),
        (ClusterError("worker 1 sees other data"), "error"),
        (DataError("the training split lacks anomalies"), "error"),
    ],
)
def test_run_trial_reports_failures(error, key, monkeypatch):
    def fail(spec: object) -> None:
        raise error

    reports = []
    monkeypatch.setattr(trial, "_train_in_process", fail)
    monkeypatch.setattr(tune, "report", reports.append)
    trial.run_trial({"spec": SPEC})
    assert [list(report) for report in reports] == [[key]]


def test_run_trial_raises_mistakes_of_the_program(monkeypatch):
    def fail(spec: object) -> None:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(trial, "_train_in_process", fail)
    with pytest.raises(RuntimeError, match="shapes differ"):
        trial.run_trial({"spec": SPEC})


@pytest.mark.slow
def test_release_memory_resets_the_peak_and_mapped_files_do_not_count(tmp_path):
    cpu, path = torch.device("cpu"), tmp_path / "large"
    path.write_bytes(bytes(300 << 20))
    torch.ones(600 << 20, dtype=torch.uint8)  # of an earlier trial, and freed
    trial.release_memory(cpu)
    before = peak_memory_mib(cpu)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert sum(mapped[:: mmap.PAGESIZE]) == 0
        assert peak_memory_mib(cpu) < before + 100
    torch.ones(400 << 20, dtype=torch.uint8)
    assert peak_memory_mib(cpu) == pytest.approx(before + 400, abs=100)
