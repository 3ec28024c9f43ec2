"""Estimates from equal jobs that are done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adjobs.queue import estimates
from adjobs.queue.dispatcher import Limits
from adjobs.queue.estimates import Estimates, likeness
from adjobs.queue.records import NewJob
from adjobs.queue.states import JobState
from tests.helpers.queue import Setup


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup(tmp_path)


def spec(epochs: int = 2, **values: Any) -> dict[str, Any]:
    document = {"method": "cdo", "params": {"epochs": epochs}, "data": {"uri": "s3://b/a", "image_size": 32, "seed": 0}}
    return {"verb": "train", "document": {**document, **values}, "space": None, "options": None}


def submit(setup: Setup, job: dict[str, Any], user: str = "ann", priority: int = 0) -> str:
    return setup.store.submit(NewJob(f"{setup.now} {user} {job}", job, user, "job", priority))[0].id


def start(setup: Setup, slots: int = 9) -> Any:
    claimed = setup.store.claim("one", slots, 1e9)
    assert claimed is not None
    return claimed


def done(setup: Setup, job: dict[str, Any], seconds: float, **progress: float) -> None:
    submit(setup, job)
    claimed = start(setup)
    setup.now += seconds
    if progress:
        setup.store.note(claimed, progress=progress)
    setup.store.move(claimed, JobState.DONE, "succeeded")


def test_of_equal_jobs_is_their_median_and_most_memory(setup):
    done(setup, spec(), 60, memory_mib=1000.0)
    done(setup, spec(), 80, memory_mib=3000.0, gpu_memory_mib=500.0)
    done(setup, spec(), 600)
    assert Estimates(setup.store, setup.now).of(spec()) == (3, 80, 3000.0, 500.0)


@pytest.mark.parametrize(
    "other",
    [
        spec(3),
        spec(method="liac"),
        spec(data={"uri": "s3://b/b", "image_size": 32}),
        spec(data={"uri": "s3://b/a", "image_size": 64}),
        spec(train={"workers": 2}),
        {**spec(), "verb": "tune"},
        {**spec(), "working_dir": "0" * 64},
        {"verb": "train"},
    ],
)
def test_of_a_job_that_differs_is_unknown(setup, other):
    done(setup, spec(), 60)
    assert Estimates(setup.store, setup.now).of(other) is None


def test_of_jobs_that_differ_in_a_seed_is_the_same(setup):
    assert likeness(spec(train={"seed": 1})) == likeness(spec(train={"seed": 2}))


def test_of_attempts_that_were_resumed_is_unknown(setup):
    submit(setup, spec())
    setup.store.move(start(setup), JobState.QUEUED, "lost")
    claimed = start(setup)
    setup.now += 60
    setup.store.move(claimed, JobState.DONE, "succeeded")
    assert Estimates(setup.store, setup.now).of(spec()) is None


def test_seconds_to_start_follows_the_slots(setup):
    def seconds(slots: int, priority: int = 0, max_per_user: int | None = None) -> float | None:
        return Estimates(setup.store, setup.now).seconds_to_start(Limits(slots, max_per_user), "ann", priority)

    done(setup, spec(), 100)
    assert seconds(1) == 0
    submit(setup, spec())
    start(setup)
    setup.now += 30
    assert (seconds(2), seconds(1)) == (0, 70)
    submit(setup, spec(), "bob")
    assert (seconds(1), seconds(1, priority=1), seconds(2)) == (170, 70, 70)
    assert seconds(9, max_per_user=1) is None
    submit(setup, spec(7), "bob")
    assert (seconds(1), seconds(1, priority=1), seconds(9)) == (None, 70, 0)


def test_seconds_to_start_counts_those_ahead_however_many_come_behind(setup, monkeypatch):
    monkeypatch.setattr(estimates, "MAX_AHEAD", 1)
    done(setup, spec(), 100)
    submit(setup, spec())
    for user in ("bob", "eve"):
        submit(setup, spec(), user, priority=-1)
    assert Estimates(setup.store, setup.now).seconds_to_start(Limits(1), "ann", 0) == 100
    assert Estimates(setup.store, setup.now).seconds_to_start(Limits(1), "ann", -1) is None
