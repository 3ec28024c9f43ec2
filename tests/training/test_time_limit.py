from __future__ import annotations

import torch

from adjobs.training.time_limit import TimeLimit


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def make_limit(max_seconds: float | None) -> tuple[TimeLimit, Clock]:
    clock = Clock()
    return TimeLimit(max_seconds, torch.device("cpu"), clock), clock


def test_time_limit_stages_share_what_is_left():
    limit, clock = make_limit(60)
    limit.start_stage(2)
    clock.now += 29
    assert not limit.is_reached()
    clock.now += 1
    assert limit.is_reached()
    limit.start_stage(1)
    clock.now += 29
    assert not limit.is_reached()
    clock.now += 1
    assert limit.is_reached()


def test_time_limit_resumed_training_has_what_is_left():
    limit, clock = make_limit(60)
    limit.resume(50)
    limit.start_stage(1)
    clock.now += 9
    assert not limit.is_reached()
    clock.now += 1
    assert limit.is_reached()
    assert limit.seconds == 60


def test_time_limit_none_is_never_reached():
    limit, clock = make_limit(None)
    limit.start_stage(1)
    clock.now += 1e9
    assert not limit.is_reached()


def test_time_limit_keeps_the_time_of_a_validation():
    limit, clock = make_limit(60)
    limit.start_stage(1)
    limit.reserve(20)
    clock.now += 39
    assert not limit.is_reached()
    clock.now += 1
    assert limit.is_reached()
