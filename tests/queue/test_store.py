from __future__ import annotations

import multiprocessing
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from adjobs.errors import QueueError
from adjobs.queue.records import NewJob, QueuedJob
from adjobs.queue.states import JobState
from adjobs.queue.store import JobStore
from tests.helpers.forwarding import Forwarder, forwarding


class Clock:
    """A clock that only moves by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(database: str, clock: Clock) -> Iterator[JobStore]:
    store = JobStore(database, clock)
    yield store
    store.close()


def submit(store: JobStore, key: str, **values: Any) -> str:
    return store.submit(NewJob(**{"key": key, "spec": {"verb": "train"}, "user": "ann", "name": key, **values}))[0].id


def claim(store: JobStore, slots: int = 1, **values: Any) -> QueuedJob | None:
    return store.claim("dispatcher", slots, 30, **values)


def names(jobs: list[QueuedJob]) -> list[str]:
    return [job.name for job in jobs]


def claim_all(store: JobStore, **values: Any) -> list[str]:
    """Names in the order in which they are claimed, with as many slots as it takes."""
    order = []
    while job := claim(store, slots=100, **values):
        order.append(job.name)
    return order


def test_submit_equal_live_job_is_the_same(store):
    first = store.submit(NewJob("k", {}, "ann", "a"))[0]
    again = store.submit(NewJob("k", {}, "bob", "b"))[0]
    assert (again.id, first.created, again.created, again.position) == (first.id, True, False, 1)
    job = claim(store)
    assert job
    assert not store.submit(NewJob("k", {}, "bob", "b"))[0].created
    store.move(job, JobState.DONE, "succeeded")
    assert store.submit(NewJob("k", {}, "bob", "b"))[0].created


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


def test_submit_after_takes_first_digits(store):
    first = submit(store, "a")
    second = submit(store, "b", after=(first[:6], first))
    assert store.unfinished_predecessors(second) == [first]


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


def test_store_unreachable_database_is_one_line(tmp_path):
    (tmp_path / "file").write_text("not a database, and long enough to be read as one" * 100)
    for url in (f"sqlite:///{tmp_path / 'file'}", f"sqlite:///{tmp_path / 'file' / 'queue.db'}", "nonsense", "redis://localhost"):
        with pytest.raises(QueueError, match=r"^queue [^\n]*: cannot be opened [^\n]*; check ADJOBS_QUEUE_DATABASE$"):
            JobStore(url)


def test_store_password_is_not_shown():
    with pytest.raises(QueueError) as error:
        JobStore("postgresql+pg8000://adjobs:secret@127.0.0.1:1/queue")
    assert "secret" not in str(error.value)


def _submit_some(url: str, user: str, count: int) -> None:
    store = JobStore(url)
    for number in range(count):
        store.submit(NewJob(f"{user}{number}", {}, user, f"{user}{number}"))[0]
        store.submit(NewJob("common", {}, user, "common"))[0]


def _work(url: str, owner: str, results: Any) -> None:
    """Run jobs until none is left; says how many held a slot at most."""
    store, most, done = JobStore(url), 0, []
    while True:
        job = store.claim(owner, 2, 60)
        holding = store.select((JobState.STARTING, JobState.RUNNING))
        most = max(most, len(holding))
        if job is None:
            if not store.select((JobState.QUEUED,)) and not any(other.owner == owner for other in holding):
                break
            continue
        done.append(job.id)
        store.move(job, JobState.RUNNING, "started")
        store.move(job, JobState.DONE, "succeeded")
    results.put((done, most))


@pytest.mark.slow
def test_store_many_processes_lose_nothing_and_run_nothing_twice(database):
    JobStore(database).close()
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    submitters = [context.Process(target=_submit_some, args=(database, user, 10)) for user in ("ann", "bob", "eve")]
    for process in submitters:
        process.start()
    for process in submitters:
        process.join()
    workers = [context.Process(target=_work, args=(database, owner, results)) for owner in ("one", "two")]
    for process in workers:
        process.start()
    outcomes = [results.get(timeout=60) for _ in workers]
    for process in workers:
        process.join()
    store = JobStore(database)
    done = [identifier for identifiers, _ in outcomes for identifier in identifiers]
    assert (len(done), len(set(done)), max(most for _, most in outcomes) <= 2) == (31, 31, True)
    assert Counter(job.state for job in store.select()) == {JobState.DONE: 31}


DATABASE_FAILED = r"^the queue's database failed \([^\n]*\); check that it runs and has space$"


@pytest.mark.slow
def test_store_goes_on_when_postgresql_was_killed(postgres):
    store = JobStore(postgres.new_database())
    identifier = submit(store, "a")
    postgres.stop(signal.SIGKILL)
    try:
        with pytest.raises(QueueError, match=DATABASE_FAILED):
            store.select()
    finally:
        postgres.start()
    assert store.get(identifier).state is JobState.QUEUED
    store.close()


@pytest.mark.slow
def test_store_goes_on_when_its_connections_to_postgresql_were_reset(postgres):
    url = postgres.new_database()
    with forwarding(postgres.port) as forwarder:
        store = JobStore(url.replace(f":{postgres.port}/", f":{forwarder.port}/"))
        identifier = submit(store, "a")
        forwarder.resets_next_request = True
        assert store.get(identifier).name == "a"
        with pytest.raises(QueueError, match=DATABASE_FAILED):
            _rename_through(store, forwarder)
        assert store.get(identifier).name == "a"
        store.close()


def _rename_through(store: JobStore, forwarder: Forwarder) -> None:
    with store.transaction() as connection:
        forwarder.resets_next_request = True
        connection.exec_driver_sql("update adjobs_jobs set name = 'changed'")


def test_counts_and_age_of_the_oldest_queued_job(store, clock):
    assert store.queued_since() is None
    submit(store, "a")
    clock.now += 5
    submit(store, "b")
    claim(store)
    assert store.counts() == {state: {"queued": 1, "starting": 1}.get(state.value, 0) for state in JobState}
    assert store.queued_since() == clock.now


def test_reading_while_another_writes_does_not_wait(store):
    job = submit(store, "a")
    with store.transaction() as connection:
        connection.exec_driver_sql("update adjobs_jobs set name = 'changed'")
        assert store.get(job).name == "a"
        assert store.positions() == {job: 1}
    assert store.get(job).name == "changed"


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
