from __future__ import annotations

import multiprocessing
import signal
from collections import Counter
from typing import Any

import pytest

from adjobs.errors import QueueError
from adjobs.queue.records import NewJob
from adjobs.queue.states import JobState
from adjobs.queue.store import JobStore
from tests.helpers.forwarding import Forwarder, forwarding
from tests.helpers.job_store import submit

DATABASE_FAILED = r"^the queue's database failed \([^\n]*\); check that it runs and has space$"


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


def test_reading_while_another_writes_does_not_wait(store):
    job = submit(store, "a")
    with store.transaction() as connection:
        connection.exec_driver_sql("update adjobs_jobs set name = 'changed'")
        assert store.get(job).name == "a"
        assert store.positions() == {job: 1}
        assert store.next_position(0) == 2
    assert store.get(job).name == "changed"
