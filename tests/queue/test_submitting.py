from __future__ import annotations

from typing import Any

import pytest

from adjobs.errors import QueueError
from adjobs.queue.records import NewJob, Submission
from adjobs.queue.states import JobState
from adjobs.queue.store import JobStore
from adjobs.queue.submitting import Answer, insert_jobs
from tests.helpers.job_store import claim, submit


def job(key: str, **values: Any) -> NewJob:
    return NewJob(key, {"verb": "train"}, "ann", key, **values)


def insert(store: JobStore, *requests: list[NewJob]) -> list[Answer]:
    with store.transaction() as connection:
        return insert_jobs(connection, requests, 1000.0)


def test_insert_jobs_of_several_requests_are_in_their_order_and_equal_ones_are_one(store):
    first, second = insert(store, [job("a"), job("b")], [job("b"), job("c"), job("c")])
    assert isinstance(first, list)
    assert isinstance(second, list)
    assert [(answer.created, answer.position) for answer in first + second] == [
        (True, 1), (True, 2), (False, 2), (True, 3), (False, 3),
    ]  # fmt: skip
    assert second[0].id == first[1].id
    assert [queued.name for queued in reversed(store.select())] == ["a", "b", "c"]
    assert [change.reason for change in store.history_of(first[0].id)] == ["submitted by ann"]


def test_insert_jobs_one_request_that_is_refused_costs_the_others_nothing(store):
    (before,) = store.submit(job("before"))
    refused, accepted, wrong = insert(
        store,
        [job("a"), job("b", after=("nope",))],
        [job("a", after=(before.id[:6], before.id))],
        [job("c", priority=1001)],
    )
    assert isinstance(refused, QueueError)
    assert str(refused).startswith("--after: job 'nope': no such job")
    assert isinstance(wrong, QueueError)
    assert isinstance(accepted, list)
    assert [queued.name for queued in store.select()] == ["a", "before"]
    assert store.unfinished_predecessors(accepted[0].id) == [before.id]


def test_insert_jobs_positions_are_those_of_the_order(store):
    insert(store, [job("low", priority=-1), job("high", priority=5)])
    (answer,) = insert(store, [job("a"), job("b", priority=5), job("c", priority=-1), job("low", priority=9), job("d")])
    assert isinstance(answer, list)
    positions = store.positions()
    assert {submission.id: submission.position for submission in answer} == {
        submission.id: positions[submission.id] for submission in answer
    }


def test_insert_jobs_equal_one_that_runs_has_no_position(store):
    (first,) = store.submit(job("a"))
    store.claim("one", 1, 30)
    assert store.get(first.id).state is JobState.STARTING
    assert insert(store, [job("a")]) == [[Submission(first.id, False, 0)]]


def test_insert_jobs_many_keep_their_order(store):
    insert(store, [job(f"{number:03}") for number in range(250)], [job(f"{number:03}") for number in range(200, 300)])
    assert [queued.name for queued in reversed(store.select())] == [f"{number:03}" for number in range(300)]


def test_submit_equal_live_job_is_the_same(store):
    first = store.submit(NewJob("k", {}, "ann", "a"))[0]
    again = store.submit(NewJob("k", {}, "bob", "b"))[0]
    assert (again.id, first.created, again.created, again.position) == (first.id, True, False, 1)
    job = claim(store)
    assert job
    assert not store.submit(NewJob("k", {}, "bob", "b"))[0].created
    store.move(job, JobState.DONE, "succeeded")
    assert store.submit(NewJob("k", {}, "bob", "b"))[0].created


def test_submit_after_an_unknown_job_is_refused(store):
    with pytest.raises(QueueError, match=r"--after: job 'nope': no such job; list them"):
        submit(store, "a", after=("nope",))
    assert store.select() == []


@pytest.mark.parametrize("priority", [-1001, 1001])
def test_submit_priority_out_of_range_is_refused(store, priority):
    with pytest.raises(QueueError, match="must be between -1000 and 1000"):
        submit(store, "a", priority=priority)
    identifier = submit(store, "a")
    with pytest.raises(QueueError, match="must be between -1000 and 1000"):
        store.set_priority(identifier, priority)


def test_submit_after_takes_first_digits(store):
    first = submit(store, "a")
    second = submit(store, "b", after=(first[:6], first))
    assert store.unfinished_predecessors(second) == [first]
