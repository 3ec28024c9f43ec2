"""Schedules in the database, and what submits their jobs, whatever the clock does and however many dispatchers there are."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from adjobs.errors import DataError, QueueDatabaseError, QueueError, ScheduleError, StorageError
from adjobs.queue import schedules as schedules_module
from adjobs.queue.admission import retraining_key
from adjobs.queue.folder import JobSpec
from adjobs.queue.records import QueuedJob
from adjobs.queue.scheduler import CHECK_SECONDS, CLOCK_SECONDS, Scheduler
from adjobs.queue.schedules import NewSchedule, Schedule, Schedules
from adjobs.queue.states import JobState
from adjobs.queue.store import JobStore
from tests.helpers.job_store import Clock
from tests.helpers.queue import Killed

BERLIN = "Europe/Berlin"
DAY, YEAR = 86400, 365 * 86400


def at(text: str) -> float:
    """Seconds since the epoch of a time in Berlin."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(BERLIN)).timestamp()


def new(name: str = "nightly", **values: Any) -> NewSchedule:
    document = {"model": "line-3", "dataset": "s3://b/line-3", "job": {"method": "cdo"}}
    return NewSchedule(**{"name": name, "user": "ann", "cron": "0 2 * * *", "time_zone": BERLIN, "document": document, **values})


class FakeAdmission:
    """Admits every retraining, or does what a test says."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.on_admit: Callable[[], None] = lambda: None

    def admit(self, spec: JobSpec) -> str:
        on_admit, self.on_admit = self.on_admit, lambda: None
        on_admit()
        if self.error is not None:
            raise self.error
        return retraining_key(spec.document["model"])


class World:
    """Schedules, their scheduler and their jobs at a time."""

    def __init__(self, store: JobStore, clock: Clock) -> None:
        self.store, self.clock, self.admission = store, clock, FakeAdmission()
        self.schedules = Schedules(store, clock)
        clock.now = at("2026-11-28T12:00")

    def step(self, time: float | None = None) -> int:
        """A step of a dispatcher that has just started; returns the number of jobs after it."""
        if time is not None:
            self.clock.now = time
        Scheduler(self.schedules, self.admission, self.clock).step()
        return len(self.store.select())

    def get(self, name: str = "nightly") -> Schedule:
        return self.schedules.get(name)

    def end_jobs(self) -> None:
        while claimed := self.store.claim("one", 1, 30):
            self.store.move(claimed, JobState.DONE, "succeeded")

    @property
    def last(self) -> QueuedJob:
        return self.store.select()[0]


@pytest.fixture
def world(store: JobStore, clock: Clock) -> World:
    world = World(store, clock)
    world.schedules.save(new())
    return world


def test_step_before_the_time_submits_nothing_and_after_it_one_job(world):
    assert world.step() == 0
    assert world.step(at("2026-11-29T01:59:59")) == 0
    assert world.step(at("2026-11-29T02:00:00")) == 1
    assert world.step(at("2026-11-29T02:00:03")) == 1
    job, schedule = world.last, world.get()
    assert (job.verb, job.method, job.data, job.user, job.name) == ("retrain", "cdo", "s3://b/line-3", "ann", "nightly")
    assert (schedule.last_job, schedule.fired, schedule.reason) == (
        job.id,
        at("2026-11-29T02:00"),
        f"2026-11-29 02:00 CET: submitted job {job.id}",
    )


def test_step_many_missed_times_are_one_job(world):
    assert world.step(at("2026-12-24T07:30")) == 1
    assert world.get().fired == at("2026-12-24T02:00")
    world.end_jobs()
    assert world.step() == 1
    assert world.step(at("2026-12-25T02:00")) == 2


def test_step_while_the_pass_before_lives_submits_no_second_one(world):
    world.step(at("2026-11-29T02:00"))
    (job,) = world.store.select()
    assert world.step(at("2026-11-30T02:00")) == 1
    assert world.get().reason == f"2026-11-30 02:00 CET: job {job.id}, the pass before, has not ended; there is no second one"
    assert world.get().fired == at("2026-11-30T02:00")
    world.end_jobs()
    assert world.step(at("2026-11-30T09:00")) == 1
    assert world.step(at("2026-12-01T02:00")) == 2


def test_step_two_schedules_of_a_model_submit_one_job(world):
    world.schedules.save(new("again", user="bob"))
    world.schedules.save(new("other", document={**new().document, "model": "line-4"}))
    assert world.step(at("2026-11-29T02:00")) == 2
    (job,) = {schedule.last_job for schedule in map(world.get, ("nightly", "again"))}
    assert world.get("other").last_job != job


def test_step_two_dispatchers_between_each_others_steps_submit_one_job(world):
    world.clock.now = at("2026-11-29T02:00")
    world.admission.on_admit = lambda: (world.step(), world.end_jobs())  # after it has read, before it writes
    assert world.step() == 1
    assert world.get().last_job == world.last.id


def test_step_dispatchers_at_once_submit_one_job(world, database):
    world.clock.now = at("2026-11-29T02:00")
    barrier = threading.Barrier(4)
    stores = [JobStore(database, world.clock) for _ in range(4)]

    def step(store: JobStore) -> None:
        scheduler = Scheduler(Schedules(store, world.clock), world.admission, world.clock)
        barrier.wait()
        scheduler.step()

    threads = [threading.Thread(target=step, args=[store]) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(world.store.select()) == 1
    assert world.get().reason.endswith(f"submitted job {world.last.id}")
    for store in stores:
        store.close()


@pytest.mark.parametrize("change", ["replace", "pause", "remove"])
def test_step_schedule_that_is_changed_meanwhile_submits_nothing(world, change):
    def act() -> None:
        world.clock.now += 1
        {
            "replace": lambda: world.schedules.save(new(cron="0 3 * * *")),
            "pause": lambda: world.schedules.pause("nightly"),
            "remove": lambda: world.schedules.remove("nightly"),
        }[change]()

    world.admission.on_admit = act
    assert world.step(at("2026-11-29T02:00")) == 0
    assert world.step() == 0


def test_step_killed_between_job_and_schedule_has_done_neither(world, monkeypatch):
    def killed(*arguments: object, **values: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(schedules_module, "_set", killed)
        with pytest.raises(Killed):
            world.step(at("2026-11-29T02:00"))
    assert world.store.select() == []
    assert world.step(at("2026-11-29T02:05")) == 1


def test_step_clock_far_ahead_and_back_submits_no_burst_and_goes_on(world):
    assert world.step(at("2046-01-01T12:00")) == 1
    world.end_jobs()
    assert world.step() == 1
    assert world.step(at("2026-11-29T12:00")) == 1
    assert world.get().reason == "the clock was set back; the schedule continues from 2026-11-29 12:00 CET"
    assert world.step(at("2026-11-30T02:00")) == 2


def test_step_clock_a_little_behind_repeats_no_time(world):
    world.step(at("2026-11-29T02:00"))
    world.end_jobs()
    fired = world.get().fired
    assert world.step(fired - CLOCK_SECONDS) == 1
    assert world.get().fired == fired
    assert world.step(fired) == 1
    assert world.step(fired + DAY) == 2


@pytest.mark.parametrize("night", ["2026-03-29", "2026-10-25"])
def test_step_through_a_night_in_which_clocks_change_submits_one_job(world, night):
    world.clock.now = at(f"{night}T00:00")
    world.schedules.save(new(cron="30 2 * * *"))
    for _ in range(5 * 6):
        world.clock.now += 600
        world.step()
        world.end_jobs()
    assert len(world.store.select()) == 1


def test_step_refused_job_is_the_reason_and_tried_at_the_next_time(world):
    world.admission.error = DataError("data 's3://b/line-3': is no data set with versions")
    assert world.step(at("2026-11-29T02:00")) == 0
    assert world.get().reason == "2026-11-29 02:00 CET: data 's3://b/line-3': is no data set with versions"
    world.admission.error = None
    assert world.step(at("2026-11-29T05:00")) == 0
    assert world.step(at("2026-11-30T02:00")) == 1


def test_step_storage_that_does_not_answer_keeps_no_job_from_waiting(world):
    world.admission.error = StorageError("S3 at http://s3: does not answer")
    assert world.step(at("2026-11-29T02:00")) == 1
    assert world.last.key == retraining_key("line-3")


def test_step_unexpected_error_of_one_schedule_leaves_the_others_and_the_dispatcher(world):
    world.schedules.save(new("later", document={**new().document, "model": "line-4"}))

    def fail() -> None:
        raise LookupError("oops")

    world.admission.on_admit = fail
    assert world.step(at("2026-11-29T02:00")) == 1
    assert world.get("later").reason == "2026-11-29 02:00 CET: the dispatcher cannot submit this (oops); its log says more"


def test_step_time_zone_of_another_machine_is_the_reason_and_written_once(world, monkeypatch):
    with world.store.transaction() as connection:
        connection.execute(schedules_module.schedules.update().values(time_zone="Mars/Olympus"))
    world.step(at("2026-11-29T02:00"))
    assert "this machine does not know the time zone" in world.get().reason
    monkeypatch.setattr(world.schedules, "note", None)
    world.step()


def test_step_database_that_fails_ends_the_dispatcher(world, monkeypatch):
    def fail(*arguments: object) -> None:
        raise QueueDatabaseError("the queue's database failed")

    monkeypatch.setattr(world.schedules, "fire", fail)
    with pytest.raises(QueueDatabaseError):
        world.step(at("2026-11-29T02:00"))


def test_step_checks_at_most_every_few_seconds_by_a_clock_that_nobody_sets(world):
    now = 0.0
    scheduler = Scheduler(world.schedules, world.admission, world.clock, lambda: now)
    scheduler.step()
    world.clock.now = at("2026-11-29T02:00")
    now = CHECK_SECONDS - 0.1
    scheduler.step()
    assert world.store.select() == []
    now = CHECK_SECONDS
    world.clock.now -= YEAR
    scheduler.step()
    now, world.clock.now = 2 * CHECK_SECONDS, at("2026-11-29T02:00")
    scheduler.step()
    assert len(world.store.select()) == 1


def test_resume_does_not_make_up_for_what_was_missed_while_paused(world):
    world.schedules.pause("nightly")
    assert world.step(at("2026-12-01T02:00")) == 0
    assert world.schedules.resume("nightly").fired == world.clock.now
    assert world.step() == 0
    assert world.step(at("2026-12-02T02:00")) == 1


def test_resume_schedule_that_is_not_paused_changes_nothing(world):
    world.clock.now = at("2026-11-29T02:00")
    world.schedules.resume("nightly")
    assert world.step() == 1


def test_save_same_name_replaces_and_forgets_the_past(world):
    world.step(at("2026-11-29T02:00"))
    world.clock.now = at("2026-12-05T12:00")
    assert world.schedules.save(new(cron="0 4 * * *"))
    assert (world.get().last_job, world.get().cron, world.get().fired) == (None, "0 4 * * *", world.clock.now)
    world.end_jobs()
    assert world.step() == 1


def test_save_wrong_cron_or_zone_and_too_many_are_refused(world, monkeypatch):
    with pytest.raises(ScheduleError, match="got '25' as hour"):
        world.schedules.save(new(cron="0 25 * * *"))
    with pytest.raises(ScheduleError, match="unknown time zone"):
        world.schedules.save(new(time_zone="Berlin"))
    monkeypatch.setattr(schedules_module, "MAX_SCHEDULES", 1)
    with pytest.raises(ScheduleError, match="has 1 schedules, the most that it can have"):
        world.schedules.save(new("another"))
    assert world.schedules.save(new())


def test_submit_now_is_the_last_job_and_moves_no_time(world):
    fired = world.get().fired
    first = world.schedules.submit_now("nightly", retraining_key("line-3"), "bob")
    assert (first.created, world.get().last_job, world.get().reason) == (True, first.id, "started by bob")
    again = world.schedules.submit_now("nightly", retraining_key("line-3"), "bob")
    assert (again.created, again.id, world.get().fired) == (False, first.id, fired)


def test_select_has_the_last_job_until_it_is_pruned(world):
    world.step(at("2026-11-29T02:00"))
    ((_, last),) = world.schedules.select()
    assert last == (JobState.QUEUED, world.clock.now)
    world.end_jobs()
    world.store.prune(world.clock.now + 1)
    ((schedule, last),) = world.schedules.select()
    assert (last, schedule.last_job is None) == (None, False)


@pytest.mark.parametrize("change", ["pause", "resume", "remove", "get"])
def test_unknown_schedule_is_one_line(world, change):
    with pytest.raises(QueueError, match=r"^schedule 'weekly': no such schedule; list them with 'adjobs retrain list'$"):
        getattr(world.schedules, change)("weekly")
    assert world.schedules.counts() == {"active": 1, "paused": 0}
