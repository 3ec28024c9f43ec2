"""Which errors a worker returns, so that Ray does not retry, and which it raises, so that Ray ends its peers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import ray
import ray.train
import ray.train.torch
import torch

from adjobs import waits
from adjobs.errors import AdjobsError, DataError, JobError, StorageError
from adjobs.training.agreement import AgreedError
from adjobs.training.backends import ray_worker
from adjobs.training.progress import GroupState
from adjobs.training.stage_trainer import TrainingError

CONFIG = {
    "task": None,
    "progress": SimpleNamespace(put=SimpleNamespace(remote=None), put_wait=SimpleNamespace(remote=None)),
    "finalize": lambda training: "done",
    "may_grow": False,
}


@pytest.fixture
def run_one_of(monkeypatch):
    """Runs a worker, the first of several or another one, whose work raises an error or is a function of its setup."""

    def run(world_size: int, work: Exception | Any, rank: int = 0) -> Any:
        def run_worker(task: None, setup: Any) -> Any:
            if isinstance(work, Exception):
                raise work
            return work(setup)

        context = SimpleNamespace(get_world_rank=lambda: rank, get_world_size=lambda: world_size)
        monkeypatch.setattr(ray.train, "get_context", lambda: context)
        monkeypatch.setattr(ray.train.torch, "get_device", lambda: torch.device("cpu"))
        monkeypatch.setattr(ray_worker, "run_worker", run_worker)
        monkeypatch.setattr(ray, "get", lambda reference, timeout=None: reference)
        return ray_worker.train_loop_per_worker({"shared": CONFIG, "may_grow": CONFIG["may_grow"]})

    return run


@pytest.mark.parametrize("error", [JobError("x"), DataError("x"), TrainingError("x")])
def test_train_loop_lasting_error_is_returned_where_no_peer_waits(run_one_of, error):
    assert run_one_of(1, error) is error
    assert run_one_of(2, AgreedError(error)) is error
    with pytest.raises(type(error)):
        run_one_of(2, error)


@pytest.mark.parametrize("work", [StorageError("x"), AgreedError(StorageError("x"))])
def test_train_loop_error_that_may_pass_is_raised(run_one_of, work):
    with pytest.raises(StorageError):
        run_one_of(2, work)


def test_train_loop_lasting_error_of_the_finalizer_is_returned(run_one_of, monkeypatch):
    error: AdjobsError = JobError("no threshold is possible")

    def refuse(training: None) -> None:
        raise error

    monkeypatch.setitem(CONFIG, "finalize", refuse)
    assert run_one_of(2, lambda setup: setup.finalize(None)) is error


@pytest.mark.parametrize(("state", "stops"), [(GroupState.TRAINING, False), (GroupState.MAY_GROW, True)])
def test_train_loop_stops_after_a_checkpoint_when_more_workers_have_room(run_one_of, monkeypatch, state, stops):
    states, reports = [], []
    actor = SimpleNamespace(
        put=SimpleNamespace(remote=None),
        put_wait=SimpleNamespace(remote=None),
        set_group=SimpleNamespace(remote=states.append),
        group=SimpleNamespace(remote=lambda: state),
    )
    monkeypatch.setattr(ray.train, "report", lambda metrics, checkpoint: reports.append(metrics))
    monkeypatch.setitem(CONFIG, "progress", actor)
    monkeypatch.setitem(CONFIG, "may_grow", True)
    outcome = run_one_of(1, lambda setup: setup.checkpoints.save(None, {"interval": 1.0}) or "trained")
    assert isinstance(outcome, ray_worker.Regrouping) == stops
    assert states == [GroupState.TRAINING]
    assert reports == [{"interval": 1.0}]


@pytest.mark.parametrize(("rank", "expected"), [(0, ["storing the model"]), (1, [])])
def test_train_loop_waits_of_the_first_worker_reach_the_driver(run_one_of, monkeypatch, rank, expected):
    monkeypatch.setattr(waits, "SECONDS", 0)
    texts = []
    actor = SimpleNamespace(put=SimpleNamespace(remote=None), put_wait=SimpleNamespace(remote=texts.append))
    monkeypatch.setitem(CONFIG, "progress", actor)

    def work(setup: Any) -> None:
        with waits.waiting_for("storing the model"):
            pass

    run_one_of(2, work, rank)
    assert texts == expected
