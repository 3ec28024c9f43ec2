"""Two dispatchers on one store, interrupted anywhere: killed, asleep beyond their lease, with heads lost and clocks moved."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from adjobs.errors import ClusterError, QueueError, StorageError, SupersededError
from adjobs.queue.dispatcher import LEASE_SECONDS, Dispatcher, Limits
from adjobs.queue.folder import AttemptEnd, JobFolder
from adjobs.queue.ray_jobs import RayJob, RayStatus
from adjobs.queue.records import NewJob
from adjobs.queue.states import ENDED, HOLDING_SLOT, JobState
from adjobs.queue.store import JobStore
from tests.helpers.queue import Killed

SLOTS = 2


class MemoryStore:
    """Objects in memory, as far as a job's folder needs them."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def read(self, key: str) -> bytes:
        if key not in self.objects:
            raise StorageError(f"{key}: does not exist")
        return self.objects[key]

    def write(self, key: str, data: bytes) -> None:
        self.objects[key] = data

    def exists(self, key: str) -> bool:
        return key in self.objects

    def uri(self, key: str = "") -> str:
        return key


class World:
    """A store, a Ray head, its drivers, and two dispatchers. ``interrupt`` is called wherever a dispatcher can be interrupted."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.interrupt: Callable[[], None] = lambda: None
        self.store = InterruptedStore(self)
        self.folders: dict[str, JobFolder] = {}
        self.table: dict[str, RayStatus] = {}  # what the head knows
        self.drivers: dict[str, str] = {}  # submission ids of living drivers, with the head or without
        self.started: list[str] = []  # drivers that found themselves current
        self.is_down = False
        self.dispatchers = [self.dispatcher(name) for name in ("one", "two")]

    def dispatcher(self, name: str) -> Dispatcher:
        return Dispatcher(name, self.store, self, self.folder, Limits(SLOTS), {})

    def folder(self, job: str) -> JobFolder:
        return self.folders.setdefault(job, JobFolder(MemoryStore()))  # type: ignore[arg-type]

    # The cluster

    def submit(self, submission_id: str, entrypoint: str, environment: Mapping[str, str], working_dir: str | None = None) -> None:
        self._answer()
        if submission_id in self.table:
            return
        job, attempt = submission_id.split("-")
        self.table[submission_id] = RayStatus.RUNNING
        try:
            self.folder(job).start_driver(int(attempt))
            self.started.append(submission_id)
            self.drivers[submission_id] = job
        except (SupersededError, ClusterError):
            self.table[submission_id] = RayStatus.FAILED
        self.interrupt()

    def job(self, submission_id: str) -> RayJob | None:
        self._answer()
        status = self.table.get(submission_id)
        return None if status is None else RayJob(status, "", None)

    def stop(self, submission_id: str) -> None:
        self._answer()
        if self.drivers.pop(submission_id, None):
            self.table[submission_id] = RayStatus.STOPPED

    def logs(self, submission_id: str) -> str:
        return ""

    def nodes(self) -> list[dict[str, float]]:
        return []

    def _answer(self) -> None:
        self.interrupt()
        if self.is_down:
            raise ClusterError("Ray does not answer")

    # What happens

    def step(self, index: int) -> None:
        try:
            self.dispatchers[index].step()
        except Killed:
            self.dispatchers[index] = self.dispatcher(("one", "two")[index])

    def lose_head(self) -> None:
        self.table.clear()

    def end_driver(self, index: int, end: str) -> None:
        """A living driver ends; a superseded one without a word."""
        if not self.drivers:
            return
        name = sorted(self.drivers)[index % len(self.drivers)]
        job, attempt = name.split("-")
        del self.drivers[name]
        is_current = self.folder(job).is_current(int(attempt))
        if is_current and end == "done":
            self.folder(job).write_end(int(attempt), AttemptEnd("done", "succeeded"))
        if end == "interrupted":
            self.folder(job).write_end(int(attempt), AttemptEnd("interrupted", "asked to end"))
        if name in self.table:
            self.table[name] = RayStatus.SUCCEEDED if is_current and end == "done" else RayStatus.FAILED

    def end_superseded_drivers(self) -> None:
        for index, name in reversed(list(enumerate(sorted(self.drivers)))):
            job, attempt = name.split("-")
            if not self.folder(job).is_current(int(attempt)):
                self.end_driver(index, "lost")

    def check(self) -> None:
        assert len(self.store.select(HOLDING_SLOT)) <= SLOTS
        twice = [name for name, count in Counter(self.started).items() if count > 1]
        assert twice == [], f"started twice: {twice}"


class InterruptedStore(JobStore):
    """The store in memory; every call of it may be the last before an interruption."""

    def __init__(self, world: World) -> None:
        super().__init__("sqlite://", lambda: world.now)
        self._world = world

    def is_held(self, *arguments: Any) -> bool:
        self._world.interrupt()
        return super().is_held(*arguments)

    def claim(self, *arguments: Any) -> Any:
        claimed = super().claim(*arguments)
        self._world.interrupt()
        return claimed

    def adopt(self, *arguments: Any) -> Any:
        adopted = super().adopt(*arguments)
        self._world.interrupt()
        return adopted

    def move(self, *arguments: Any, **values: Any) -> bool:
        self._world.interrupt()
        return super().move(*arguments, **values)


actions = st.one_of(
    st.tuples(st.just("step"), st.integers(0, 1)),
    st.tuples(st.just("submit"), st.integers(0, 3)),
    st.tuples(st.just("stop"), st.integers(0, 9)),
    st.tuples(st.just("resume"), st.integers(0, 9)),
    st.tuples(st.sampled_from(["done", "lost", "interrupted"]), st.integers(0, 9)),
    st.tuples(st.just("clock"), st.sampled_from([-3600, 5, LEASE_SECONDS + 1, 3600])),
    st.tuples(st.sampled_from(["down", "up", "lose"]), st.just(0)),
)
interruptions = st.one_of(st.just(("none", 0)), st.just(("none", 0)), st.just(("kill", 0)), actions)


def act(world: World, action: str, value: Any) -> None:
    ids = [job.id for job in world.store.select()]
    if action == "step":
        world.step(value)
    elif action == "submit":
        world.store.submit(NewJob(f"key-{value}", {}, "ann", "job", max_attempts=2))
    elif action in ("stop", "resume") and ids:
        change = world.store.request_stop if action == "stop" else world.store.requeue
        with contextlib.suppress(QueueError):  # it has ended, or lives
            change(ids[value % len(ids)])
    elif action in ("done", "lost", "interrupted"):
        world.end_driver(value, action)
    elif action == "clock":
        world.now += value
    elif action == "lose":
        world.lose_head()
    else:
        world.is_down = action == "down"
    world.check()


@pytest.mark.slow
@settings(
    max_examples=25,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],  # shrinking takes minutes
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.lists(actions, min_size=5, max_size=25), st.lists(interruptions, max_size=30))
def test_dispatchers_interrupted_anywhere_start_nothing_twice_and_end_every_job(plan, interrupting):
    world = World()
    for key in range(3):
        act(world, "submit", key)
    pending, depth = list(interrupting), 0

    def interrupt() -> None:
        """The dispatcher sleeps here while other things happen, or is killed."""
        nonlocal depth
        if not pending or depth:
            return
        action, value = pending.pop()
        if action == "kill":
            raise Killed
        if action != "none":
            depth += 1
            act(world, action, value)
            depth -= 1

    world.interrupt = interrupt
    for action, value in plan:
        act(world, action, value)
    pending.clear()
    world.is_down = False
    end_all_jobs(world)


def end_all_jobs(world: World) -> None:
    """Without faults every job ends, and of those that were stopped no driver goes on."""
    for _ in range(40):
        if all(job.state in ENDED for job in world.store.select()):
            break
        world.now += LEASE_SECONDS + 1
        for index in (0, 1):
            world.step(index)
            world.check()
        world.end_superseded_drivers()
        world.end_driver(0, "done")
    world.end_superseded_drivers()
    jobs = world.store.select()
    assert [job.state for job in jobs if job.state not in ENDED] == []
    stopped = {job.id for job in jobs if job.state is JobState.STOPPED}
    assert [name for name, job in world.drivers.items() if job in stopped] == []


def test_step_dispatcher_that_slept_beyond_its_lease_starts_no_earlier_attempt_again():
    world = World()
    world.store.submit(NewJob("a", {}, "ann", "a"))
    asleep = iter([True])

    def sleep() -> None:
        """The first dispatcher sleeps between its claim and the submission; the second one starts, loses and repeats the job."""
        if next(asleep, False):
            world.now += LEASE_SECONDS + 1
            world.step(1)
            world.end_driver(0, "lost")
            world.step(1)
            world.lose_head()

    world.interrupt = sleep
    world.step(0)
    (job,) = world.store.select()
    assert world.started == [f"{job.id}-1", f"{job.id}-2"]
    assert (job.attempt, job.owner) == (2, "two")


@pytest.mark.parametrize("seconds", [-3600, 3600])
def test_adopt_after_the_clock_was_set_takes_over_within_a_lease(seconds):
    world = World()
    world.store.submit(NewJob("a", {}, "ann", "a"))
    world.step(0)
    world.now += seconds
    world.now += LEASE_SECONDS + 1
    assert [job.owner for job in world.store.adopt("two", LEASE_SECONDS)] == ["two"]
