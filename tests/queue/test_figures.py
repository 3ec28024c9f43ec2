from __future__ import annotations

import pytest

from adjobs.queue.figures import ENDED_TOTAL, LOST_TOTAL, RUNNING, SUM, WAITING
from adjobs.queue.records import NewJob
from adjobs.queue.states import JobState


def test_figures_of_a_job_that_is_lost_once_and_pruned(store, clock):
    store.submit(NewJob("a", {}, "ann", "a"))
    clock.now += 40
    first = store.claim("one", 1, 30)
    clock.now += 5
    store.move(first, JobState.QUEUED, "its node was lost")
    clock.now += 1000
    second = store.claim("one", 1, 30)
    store.move(second, JobState.RUNNING, "running")
    clock.now += 400
    store.move(second, JobState.DONE, "succeeded")
    expected = {
        (WAITING, "60"): 1.0,
        (WAITING, SUM): 40.0,
        (LOST_TOTAL, ""): 1.0,
        (RUNNING, "10"): 1.0,
        (RUNNING, "900"): 1.0,
        (RUNNING, SUM): 405.0,
        (ENDED_TOTAL, "done"): 1.0,
    }
    assert store.figures() == expected
    clock.now += 1
    assert len(store.prune(clock.now)) == 1
    assert store.figures() == expected


def test_figures_when_the_clock_was_set_back_count_no_negative_time(store, clock):
    store.submit(NewJob("a", {}, "ann", "a"))
    clock.now -= 3600
    store.claim("one", 1, 30)
    assert store.figures() == {(WAITING, "10"): 1.0, (WAITING, SUM): 0.0}


def test_figures_of_a_change_that_is_not_made_stay(store):
    store.submit(NewJob("a", {}, "ann", "a"))
    job = store.claim("one", 1, 30)
    before = store.figures()
    with pytest.raises(RuntimeError), store.transaction() as connection:  # noqa: PT012
        connection.exec_driver_sql("update adjobs_figures set value = 9")
        raise RuntimeError
    assert store.figures() == before
    assert store.get(job.id).state is JobState.STARTING
