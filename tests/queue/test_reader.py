from __future__ import annotations

from dataclasses import replace

import pytest

from adjobs.errors import QueueError
from adjobs.queue.records import NewJob
from adjobs.queue.states import JobState
from tests.helpers.job_store import claim, names, submit


def test_get_first_digits_are_enough_when_unique(store):
    identifier = submit(store, "a")
    assert store.get(identifier[:5]).id == identifier
    for unknown in ("", "zz", "%", "_" * 12):
        with pytest.raises(QueueError, match="no such job; list them"):
            store.get(unknown)


def test_history_of_has_every_change_with_time_and_reason(store, clock):
    identifier = submit(store, "a")
    clock.now += 5
    job = claim(store)
    store.move(job, JobState.RUNNING, "started")
    clock.now += 5
    store.move(job, JobState.DONE, "succeeded")
    changes = [(change.time, change.state.value, change.attempt, change.reason) for change in store.history_of(identifier)]
    assert changes == [
        (1000, "queued", 0, "submitted by ann"),
        (1005, "starting", 1, "claimed"),
        (1005, "running", 1, "started"),
        (1010, "done", 1, "succeeded"),
    ]


def test_counts_and_age_of_the_oldest_queued_job(store, clock):
    assert store.queued_since() is None
    submit(store, "a")
    clock.now += 5
    submit(store, "b")
    claim(store)
    assert store.counts() == {state: {"queued": 1, "starting": 1}.get(state.value, 0) for state in JobState}
    assert store.queued_since() == clock.now


@pytest.mark.parametrize("data", ["elpv", {"uri": "elpv", "image_size": 32}])
def test_summaries_have_what_a_list_shows_of_a_spec(store, data):
    submit(store, "a", spec={"verb": "train", "name": "a", "document": {"method": "cdo", "data": data, "train": {"seed": 1}}})
    submit(store, "b", user="bob", spec={"verb": "tune"})
    assert [(job.verb, job.method, job.data) for job in store.summaries()] == [("tune", None, None), ("train", "cdo", "elpv")]
    assert names(store.summaries((JobState.QUEUED,), "ann", 1)) == ["a"]
    assert replace(store.summaries()[1], spec={}) == replace(store.select()[1], spec={})


def test_working_dirs_are_those_of_all_jobs(store):
    for name, digest in (("a", "d1"), ("b", None), ("c", "d2"), ("d", "d1")):
        store.submit(NewJob(name, {"verb": "train", "working_dir": digest}, "ann", name))
    store.submit(NewJob("e", {"verb": "train"}, "ann", "e"))
    assert store.working_dirs() == {"d1", "d2"}
