"""How many workers train next: without Ray, on a cluster that a test describes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.train import PreemptionError, WorkerGroupError

from adjobs.errors import ClusterError
from adjobs.training.backends import elastic
from adjobs.training.backends.ray_worker import Regrouping
from adjobs.training.progress import GroupState, LatestProgress

BUNDLE = {"CPU": 2, "GPU": 0.5}
LOST = WorkerGroupError("a worker was lost", {0: RuntimeError("lost")})


class Cluster:
    """Has room for some workers, and counts requests."""

    def __init__(self, room: int) -> None:
        self.room, self.requests, self.held = room, [], 0

    @contextmanager
    def placement_group(self, count: int, bundle: Any) -> Iterator[Any]:
        assert bundle is BUNDLE
        self.requests.append(count)
        self.held += 1
        yield SimpleNamespace(wait=lambda seconds: count <= self.room)
        self.held -= 1


@pytest.fixture
def cluster(monkeypatch):
    made = Cluster(4)
    monkeypatch.setattr(elastic, "_placement_group", made.placement_group)
    monkeypatch.setattr(elastic, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(ray, "get", lambda answer, timeout=None: answer)
    return made


def actor(state: LatestProgress) -> Any:
    """A body called as an actor is."""
    names = ("set_group", "group")
    return SimpleNamespace(**{name: SimpleNamespace(remote=getattr(state, name)) for name in names})


@pytest.mark.parametrize(("room", "expected"), [(1, 1), (2, 2), (3, 2), (4, 4), (9, 4)])
def test_wait_for_room_is_the_largest_number_that_fits(cluster, room, expected):
    cluster.room = room
    assert elastic.wait_for_room([1, 2, 4], BUNDLE) == expected
    assert cluster.held == 0


def test_wait_for_room_without_any_is_one_line(cluster, monkeypatch):
    monkeypatch.setattr(elastic, "MAX_WAIT_SECONDS", 0.05)
    cluster.room = 1
    with pytest.raises(ClusterError, match=r"^train.workers: no room for 2 workers with 2 CPU, 0.5 GPU each for .* minutes; add"):
        elastic.wait_for_room([2, 4], BUNDLE)


def run(cluster: Cluster, outcomes: list[Any], max_retries: int = 1) -> tuple[Any, list[int]]:
    """What comes of groups that end so, and how many workers they had; each outcome is one, with the room after it."""
    started: list[int] = []

    def fit(workers: int) -> Any:
        started.append(workers)
        outcome, cluster.room = outcomes.pop(0)
        if isinstance(outcome, WorkerGroupError | PreemptionError):
            raise outcome
        return outcome

    return elastic.fit_elastic([1, 2, 4], max_retries, BUNDLE, fit, actor(LatestProgress())), started


def test_fit_elastic_continues_with_those_that_are_left_and_grows_again(cluster):
    outcome, started = run(cluster, [(LOST, 1), (Regrouping(), 3), ("trained", 0)])
    assert outcome == "trained"
    assert started == [4, 1, 2]


def test_fit_elastic_workers_lost_too_often_end_the_training_and_announced_losses_do_not_count(cluster):
    announced = PreemptionError.__new__(PreemptionError)
    assert run(cluster, [(announced, 2), (announced, 2), (LOST, 2), ("trained", 0)])[1] == [4, 2, 2, 2]
    cluster.room = 4
    with pytest.raises(WorkerGroupError):
        run(cluster, [(LOST, 4), (LOST, 4)])


def test_reserve_waits_until_the_others_have_their_room(cluster):
    state, done = LatestProgress(), threading.Event()
    thread = threading.Thread(target=elastic._reserve, args=(2, BUNDLE, actor(state), done))
    thread.start()
    thread.join(0.1)
    assert cluster.requests == []
    state.set_group(GroupState.TRAINING)
    for _ in range(500):
        if state.group() == GroupState.MAY_GROW:
            break
        thread.join(0.01)
    assert (cluster.requests, cluster.held, state.group()) == ([2], 1, GroupState.MAY_GROW)
    done.set()
    thread.join()
    assert cluster.held == 0
