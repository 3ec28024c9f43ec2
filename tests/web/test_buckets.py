from __future__ import annotations

from adjobs.web import buckets
from adjobs.web.buckets import TokenBuckets


def test_take_empties_a_bucket_that_fills_with_time():
    now = [0.0]
    limits = TokenBuckets(2, 3, lambda: now[0])
    assert [limits.take("ann") for _ in range(4)] == [0, 0, 0, 0.5]
    assert (limits.take("bob"), limits.wait("ann")) == (0, 0.5)
    now[0] = 0.5
    assert [limits.take("ann") for _ in range(2)] == [0, 0.5]
    now[0] = 1000.0
    assert [limits.take("ann") for _ in range(4)] == [0, 0, 0, 0.5]
    now[0] = 0.0  # a clock that goes back fills nothing
    assert limits.take("ann") == 0.5


def test_take_many_clients_are_forgotten_in_their_order(monkeypatch):
    monkeypatch.setattr(buckets, "MAX_CLIENTS", 2)
    limits = TokenBuckets(1, 1)
    for name in "abc":
        limits.take(name)
    assert [limits.knows(name) for name in "abc"] == [False, True, True]
