from __future__ import annotations

import pytest

from adjobs.queue.states import JobState
from tests.helpers.job_store import claim, claim_all, submit


def test_claim_order_is_priority_and_then_first_come_first_served(store):
    for key, priority in (("a", 0), ("b", 5), ("c", 0), ("d", -1), ("e", 5)):
        submit(store, key, priority=priority)
    positions = store.positions()
    assert [job.name for job in sorted(store.select(), key=lambda job: positions[job.id])] == ["b", "e", "a", "c", "d"]
    assert claim_all(store) == ["b", "e", "a", "c", "d"]


def test_claim_slots_bound_what_is_live_and_free_when_a_job_ends(store):
    for key in "abc":
        submit(store, key)
    first, second = claim(store, 2), claim(store, 2)
    assert first
    assert second
    assert claim(store, 2) is None
    store.move(first, JobState.RUNNING, "started")
    assert claim(store, 2) is None
    store.move(first, JobState.DONE, "succeeded")
    third = claim(store, 2)
    assert third
    assert third.name == "c"


def test_claim_user_at_the_limit_lets_others_pass(store):
    for key, user in (("a", "ann"), ("b", "ann"), ("c", "bob")):
        submit(store, key, user=user)
    assert claim_all(store, max_per_user=1) == ["a", "c"]


def test_claim_job_that_waits_for_another_lets_others_pass(store):
    first = submit(store, "a")
    submit(store, "b", after=(first,), priority=9)
    submit(store, "c")
    job = claim(store, 9)
    assert job
    assert job.name == "a"
    assert claim_all(store) == ["c"]
    store.move(job, JobState.DONE, "succeeded")
    assert claim_all(store) == ["b"]


@pytest.mark.parametrize("end", [JobState.FAILED, JobState.STOPPED])
def test_claim_jobs_after_one_that_failed_fail_in_turn(store, end):
    first = submit(store, "a")
    second = submit(store, "b", after=(first,))
    third = submit(store, "c", after=(second,))
    job = claim(store)
    store.move(job, end, "out of memory")
    assert claim(store) is None
    assert [store.get(name).state for name in (second, third)] == [JobState.FAILED, JobState.FAILED]
    assert store.get(third).reason == f"job {second}, which it had to wait for, is failed"
