from __future__ import annotations

import pytest

from adjobs.errors import QueueError
from adjobs.queue.records import NewJob
from adjobs.queue.states import JobState
from tests.helpers.job_store import claim, names, submit


def test_adopt_takes_own_jobs_and_those_whose_lease_is_over(store, clock):
    for key in "ab":
        submit(store, key)
    mine, theirs = store.claim("me", 2, 30), store.claim("them", 2, 30)
    assert mine
    assert theirs
    assert names(store.adopt("me", 30)) == ["a"]
    clock.now += 31
    assert names(store.adopt("me", 30)) == ["a", "b"]
    assert store.adopt("them", 30) == []


def test_move_of_a_dispatcher_that_lost_the_job_changes_nothing(store, clock):
    submit(store, "a")
    job = store.claim("slow", 1, 30)
    clock.now += 31
    (adopted,) = store.adopt("other", 30)
    assert not store.move(job, JobState.FAILED, "late")
    assert store.move(adopted, JobState.RUNNING, "started")
    assert store.move(adopted, JobState.QUEUED, "its node was lost")
    retried = store.claim("other", 1, 30)
    assert retried
    assert retried.submission_id == f"{job.id}-2"
    assert not store.move(adopted, JobState.DONE, "late")
    assert not store.note(adopted, progress={"step": 1})
    assert store.note(retried, progress={"step": 2})
    assert store.get(job.id).progress == {"step": 2}


def test_request_stop_queued_ends_at_once_running_when_stopped(store):
    first, second = submit(store, "a"), submit(store, "b")
    job = claim(store)
    assert store.request_stop(second).state is JobState.STOPPED
    assert store.request_stop(first).stop_requested
    assert store.get(first).state is JobState.STARTING
    store.move(job, JobState.STOPPED, "stopped by a user")
    with pytest.raises(QueueError, match=f"job {first} is stopped already; only jobs that wait or run"):
        store.request_stop(first)


def test_requeue_failed_job_goes_on_with_the_next_attempt(store):
    identifier = submit(store, "a", max_attempts=1)
    job = claim(store)
    with pytest.raises(QueueError, match="is starting; only failed and stopped jobs can be resumed"):
        store.requeue(identifier)
    store.move(job, JobState.FAILED, "out of memory")
    again = store.requeue(identifier)
    assert (again.state, again.ended_at, again.max_attempts) == (JobState.QUEUED, None, 4)
    retried = claim(store)
    assert retried
    assert retried.attempt == 2
    store.move(retried, JobState.DONE, "succeeded")
    with pytest.raises(QueueError, match="is done; only failed and stopped"):
        store.requeue(identifier)


def test_requeue_gives_the_same_number_of_attempts_each_time(store):
    identifier = submit(store, "a")
    given = []
    for _ in range(3):
        store.move(claim(store), JobState.FAILED, "lost")
        again = store.requeue(identifier)
        given.append(again.max_attempts - again.attempt)
    assert given == [3, 3, 3]


def test_move_to_the_queue_of_a_job_that_a_user_stopped_meanwhile_stops_it(store):
    submit(store, "a")
    job = claim(store)
    store.request_stop(job.id)
    store.move(job, JobState.QUEUED, "its node was lost")
    assert (store.get(job.id).state, store.get(job.id).reason) == (JobState.STOPPED, "stopped by a user")


def test_requeue_beside_an_equal_live_job_is_refused(store):
    identifier = submit(store, "a")
    store.request_stop(identifier)
    other = submit(store, "a")
    with pytest.raises(QueueError, match=f"the equal job {other} lives"):
        store.requeue(identifier)


def test_set_priority_moves_a_queued_job_only(store):
    first, second = submit(store, "a"), submit(store, "b")
    store.set_priority(second, 3)
    assert store.positions() == {second: 1, first: 2}
    claim(store)
    with pytest.raises(QueueError, match="is starting; only a queued job has a place"):
        store.set_priority(second, 1)


def test_prune_keeps_live_jobs_and_what_they_wait_for(store, clock):
    first, second = submit(store, "a"), submit(store, "b")
    submit(store, "c", after=(first,))
    for _ in range(2):
        store.move(claim(store), JobState.DONE, "succeeded")
    clock.now += 100
    assert store.prune(clock.now - 50) == [second]
    assert set(names(store.select())) == {"a", "c"}
    with pytest.raises(QueueError):
        store.history_of(second)


@pytest.mark.parametrize("end", [JobState.FAILED, JobState.STOPPED])
def test_prune_keeps_what_a_job_would_wait_for_that_may_be_resumed(store, clock, end):
    first = submit(store, "a")
    second = submit(store, "b", after=(first,))
    third = submit(store, "c", after=(second,))
    job = claim(store)
    store.move(job, end, "out of memory")
    clock.now += 100
    claim(store)  # fails those that wait for it
    assert store.prune(clock.now - 50) == []
    store.requeue(third)
    assert claim(store) is None
    assert store.get(third).state is JobState.FAILED
    clock.now += 100
    assert set(store.prune(clock.now - 50)) == {first, second, third}


def test_prune_thousands_of_jobs(store, clock):
    store.submit(*(NewJob(str(number), {}, "ann", "a") for number in range(1001)))
    with store.transaction() as connection:
        connection.exec_driver_sql("update adjobs_jobs set state = 'stopped', ended_at = created_at")
    assert len(store.prune(clock.now + 1)) == 1001
    assert store.select() == []
