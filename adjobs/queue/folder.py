"""The folder of a queued job in the artifact store, by which dispatcher and driver talk: the driver may run on any node.

``spec.json`` is what to run, ``attempt.json`` the only attempt that may, ``run.json`` the run that it opened, ``progress.json``
how far it is, and ``end-<attempt>.json`` how it ended, which Ray forgets when its head dies.
``refused-<attempt>.json`` counts how often Ray refused to start it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, TypeVar, get_args

from adjobs.errors import ClusterError, DamagedError, SupersededError, one_line, shown
from adjobs.storage import fence, open_store
from adjobs.storage.base import Store
from adjobs.storage.fence import Fence
from adjobs.tracking.layout import RunRef

Parsed = TypeVar("Parsed")
Verb = Literal["train", "tune", "compare", "retrain"]
EndState = Literal["done", "failed", "lost", "interrupted"]


@dataclass(frozen=True)
class JobSpec:
    """What a driver runs.

    Attributes:
        verb: ``train``, ``tune``, ``compare`` or ``retrain``.
        name: for people; a search or a comparison has it, with the job's id, as its name.
        document: the job, as in a job file; the retraining, as in its file.
        space: the search space, as in a space file; None unless it is a search.
        options: of the search, as :class:`adjobs.tuning.plan.SearchOptions` has them; and ``time_budget_s``.
        working_dir: SHA-256 of the uploaded archive in whose files it runs; None: it needs none.
    """

    verb: Verb
    name: str
    document: dict[str, Any]
    space: dict[str, Any] | None = None
    options: dict[str, Any] | None = None
    working_dir: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON; what is nested is shared, not copied."""
        return dict(vars(self))


@dataclass(frozen=True)
class AttemptEnd:
    """How an attempt ended.

    Attributes:
        state: ``done``; ``failed`` as another attempt would; ``lost`` for what another attempt may overcome; ``interrupted`` by a
            signal, which a user who stops the job sends, or a machine that shuts down.
        reason: the error, in one line.
    """

    state: EndState
    reason: str


INTERRUPTED = AttemptEnd("interrupted", "its driver was asked to end, but not by a user of the queue")
"""The end of an attempt by a signal, as far as its driver can know."""


@dataclass(frozen=True)
class JobProgress:
    """How far a job is.

    Attributes:
        stage: of the training; ``trials`` of a search.
        done: steps of the stage, or trials, that are done.
        total: of them all.
        loss: mean of the latest steps; None in a search, or if it is not finite.
        images_per_s: of all workers; None in a search.
        seconds_left: of the stage, or of the search's budget; None as long as it cannot be said.
        memory_mib: peak of the memory of driver and workers of a training; None: not measured.
        gpu_memory_mib: peak of the GPU memory of its workers; None: not measured, or no GPU.
    """

    stage: str
    done: int
    total: int
    loss: float | None = None
    images_per_s: float | None = None
    seconds_left: float | None = None
    memory_mib: float | None = None
    gpu_memory_mib: float | None = None


class JobFolder:
    """The objects of one job."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @classmethod
    def open(cls, artifacts: str, job: str) -> Self:
        """The folder of a job in an artifact store."""
        return cls(open_store(cls.uri(artifacts, job)))

    @staticmethod
    def uri(artifacts: str, job: str) -> str:
        """Where the folder of a job is."""
        return f"{artifacts}/queue/{job}"

    @staticmethod
    def delete(artifacts: str, job: str) -> None:
        """Delete the folder of a job, if it has one."""
        open_store(f"{artifacts}/queue").delete(job)

    def write_spec(self, spec: Mapping[str, Any]) -> None:
        """Store what to run."""
        self._write("spec.json", spec)

    def spec(self) -> JobSpec:
        """What to run."""
        return self._parse(JobSpec, "spec.json", self._read("spec.json"))

    def start_attempt(self, attempt: int) -> None:
        """Let this attempt be the only one that may go on.

        Raises:
            SupersededError: a later one was started already.
        """
        try:
            current = fence.read_current(self._store) if self._store.exists(fence.KEY) else 0
        except DamagedError:
            current = 0  # it keeps every attempt from writing, and is replaced
        if current > attempt:
            raise SupersededError(f"attempt {attempt} of this job was to be started after attempt {current}")
        fence.write_current(self._store, attempt)

    def count_refusal(self, attempt: int) -> int:
        """Count one more time that Ray refused to start an attempt; returns how often it has."""
        name = f"refused-{attempt}.json"
        count = 1
        with contextlib.suppress(DamagedError, TypeError):
            count += self._read(name).get("count", 0) if self._store.exists(name) else 0
        self._write(name, {"count": count})
        return count

    def revoke(self, attempt: int) -> None:
        """Let an attempt end itself that cannot be stopped, wherever it runs or will yet be started."""
        self.start_attempt(attempt + 1)

    def is_current(self, attempt: int) -> bool:
        """Whether no later attempt has begun."""
        return fence.read_current(self._store) == attempt

    def start_driver(self, attempt: int) -> None:
        """Record that the driver of an attempt has started.

        Raises:
            SupersededError: a later attempt has begun.
            ClusterError: a driver of this attempt was started before; a head that was lost since may have done so.
        """
        if not self.is_current(attempt):
            raise SupersededError(f"attempt {attempt} of this job is not the current one; nothing was done")
        if self.has_driver(attempt):
            raise ClusterError(f"attempt {attempt} of this job was started before, by a Ray head that was lost")
        self._write(f"driver-{attempt}.json", {})

    def has_driver(self, attempt: int) -> bool:
        """Whether the driver of an attempt has started; it may have ended since."""
        return self._store.exists(f"driver-{attempt}.json")

    def fence(self, attempt: int) -> Fence:
        """What keeps an attempt from writing when a later one has begun."""
        return Fence(self._store.uri(), attempt)

    def write_run(self, run: RunRef) -> None:
        """Store which run the job has opened."""
        self._write("run.json", run._asdict())

    def run(self) -> RunRef | None:
        """The run that the job has opened; None before that."""
        return self._parse(RunRef, "run.json", self._read("run.json")) if self._store.exists("run.json") else None

    def write_progress(self, attempt: int, progress: JobProgress) -> None:
        """Store how far an attempt is."""
        self._write("progress.json", {"attempt": attempt, **asdict(progress)})

    def progress(self, attempt: int) -> JobProgress | None:
        """How far an attempt is; None before its first report."""
        if not self._store.exists("progress.json"):
            return None
        value = self._read("progress.json")
        return self._parse(JobProgress, "progress.json", value) if value.pop("attempt", None) == attempt else None

    def write_end(self, attempt: int, end: AttemptEnd) -> None:
        """Store how an attempt ended."""
        self._write(f"end-{attempt}.json", asdict(end))

    def end(self, attempt: int) -> AttemptEnd | None:
        """How an attempt ended; None if it lives, or died before it could store that."""
        name = f"end-{attempt}.json"
        if not self._store.exists(name):
            return None
        end = self._parse(AttemptEnd, name, self._read(name))
        if end.state not in get_args(EndState):
            raise DamagedError(f"{self._store.uri(name)}: is damaged (state {shown(end.state)}); submit the job again")
        return end

    def _parse(self, kind: Callable[..., Parsed], name: str, value: Mapping[str, Any]) -> Parsed:
        try:
            return kind(**value)
        except TypeError as error:
            raise DamagedError(f"{self._store.uri(name)}: is damaged ({one_line(error)}); submit the job again") from error

    def _write(self, name: str, value: Mapping[str, Any]) -> None:
        self._store.write(name, json.dumps(value, allow_nan=False).encode())

    def _read(self, name: str) -> dict[str, Any]:
        try:
            value = json.loads(self._store.read(name))
        except ValueError as error:
            raise DamagedError(f"{self._store.uri(name)}: is not valid JSON ({one_line(error)}); submit the job again") from error
        if not isinstance(value, dict):
            raise DamagedError(f"{self._store.uri(name)}: is not a JSON object; submit the job again")
        return value
