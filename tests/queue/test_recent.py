from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from adjobs.queue.recent import Recent


def test_get_is_kept_as_long_as_its_cost_allows():
    now = [0.0]
    recent: Recent[str, float] = Recent(lambda took: min(5.0, 10 * took), lambda: now[0])

    def find() -> float:
        now[0] += 0.25
        return now[0]

    assert recent.get("a", find) == 0.25
    now[0] += 2.5
    assert recent.get("a", find) == 0.25
    assert recent.get("b", find) == 3.0
    assert recent.get("a", find) == 3.25
    now[0] += 100
    recent.get("c", find)
    assert list(recent._entries) == ["c"]


def test_get_error_is_raised_and_not_kept():
    recent: Recent[None, int] = Recent(lambda took: 1.0)

    def fail() -> int:
        raise OSError("once")

    with pytest.raises(OSError, match="once"):
        recent.get(None, fail)
    assert recent.get(None, lambda: 3) == 3


def test_get_threads_at_once_share_one_answer():
    recent: Recent[None, int] = Recent(lambda took: 5.0)
    calls: list[int] = []
    release = threading.Event()

    def find() -> int:
        release.wait(10)
        calls.append(1)
        return len(calls)

    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(recent.get, None, find) for _ in range(8)]
        release.set()
        assert [answer.result() for answer in answers] == [1] * 8


def test_get_value_that_a_thread_is_about_to_find_is_not_forgotten(monkeypatch):
    """Another thread asks for something else before the first one has begun to find its value."""
    recent: Recent[str, int] = Recent(lambda took: 5.0)

    class Interrupted:
        def __init__(self) -> None:
            self.lock, self.is_new = recent._lock, True

        def __enter__(self) -> None:
            self.lock.acquire()

        def __exit__(self, *_: object) -> None:
            self.lock.release()
            if self.is_new:
                self.is_new = False
                recent.get("other", lambda: 0)

    monkeypatch.setattr(recent, "_lock", Interrupted())
    assert recent.get("a", lambda: 1) == 1
    assert recent.get("a", lambda: 2) == 1
