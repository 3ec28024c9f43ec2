"""Search spaces: which keys of a job vary, and between what.

A space file is YAML::

    method: cdo
    axes:
      params.gamma: {uniform: [0, 4]}
      params.lr: {loguniform: [1.0e-4, 1.0e-2]}
      params.levels: {randint: [1, 3]}                           # both ends included
      params.faint: {quniform: [0, 0.9, 0.1]}                    # low, high, step
      data.image_size: {choice: [128, 256]}
      params.rectangles: {randint: [1, 8], when: {params.mom: true}}   # only where an earlier key, or else the job, says so
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from adjobs import methods
from adjobs.config.job import JobConfig
from adjobs.config.resolve import read_yaml, resolve
from adjobs.errors import AdjobsError, JobError, choices

if TYPE_CHECKING:
    from optuna import Trial

Kind = Literal["uniform", "loguniform", "quniform", "randint", "choice"]
Point = dict[str, Any]  # the keys that vary, with one value each

KINDS = {
    "uniform": "[low, high]",
    "loguniform": "[low, high], both above 0",
    "quniform": "[low, high, step], a whole number of steps apart",
    "randint": "[low, high], whole numbers, both included",
    "choice": "a list of words, numbers, booleans or null",
}
# What of a job may vary beside params: not which pictures, not luck (seeds), not what comes after the training.
FREE = ("data.image_size", "data.protocol", "data.max_train_anomalies", "data.label_detail", "data.block_size", "train.precision")


@dataclass(frozen=True)
class Axis:
    """One key of the job that varies.

    Attributes:
        key: dotted, such as ``params.gamma``.
        kind: how its values are drawn.
        values: ``choice``: the options; else low, high and for ``quniform`` the step.
        when: values of other keys with which this one varies at all.
    """

    key: str
    kind: Kind
    values: tuple[Any, ...]
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values between which all others lie; of a choice, every one."""
        return self.values if self.kind == "choice" else self.values[:2]

    @property
    def countable(self) -> tuple[Any, ...] | None:
        """Every value, in order; None where there is no end of them."""
        if self.kind == "choice":
            return self.values
        if self.kind == "randint":
            return tuple(range(self.values[0], self.values[1] + 1))
        if self.kind == "quniform":
            low, high, step = self.values
            return tuple(_plain(low + i * step) for i in range(round((high - low) / step) + 1))
        return None

    def holds(self, value: object) -> bool:
        """Whether a value is one of this axis."""
        if self.countable is not None:
            return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in self.countable)
        return isinstance(value, int | float) and not isinstance(value, bool) and self.values[0] <= value <= self.values[1]

    def draw(self, trial: Trial) -> Any:
        """A value that Optuna suggests."""
        if self.kind == "choice":
            return trial.suggest_categorical(self.key, self.values)
        low, high, *step = self.values
        if self.kind == "randint":
            return trial.suggest_int(self.key, low, high)
        value = trial.suggest_float(self.key, low, high, log=self.kind == "loguniform", step=step[0] if step else None)
        return _plain(value) if step else value


@dataclass(frozen=True)
class Space:
    """All keys that vary, in the order in which they are drawn."""

    source: str
    method: str
    axes: tuple[Axis, ...]

    def check(self, job: JobConfig) -> None:
        """Try every end of every axis on the job, or where its ``when`` wants another one, on that.

        Raises:
            JobError: all that the method's configuration or the job refuses, at once.
        """
        problems = [] if job.method == self.method else [f"method: got {self.method}, the job's is {job.method}"]
        for axis in self.axes if not problems else ():
            around = self._where_it_varies(axis, job)
            if around is None:
                problems.append(f"{axis.key}: its 'when' never holds in this space; change it, or leave the key out")
                continue
            for end in axis.ends:
                try:
                    self.job_at({**around, axis.key: end}, job)
                except JobError as error:
                    problems.append(str(error).removeprefix(f"{self.source}: "))
        if not problems and all(self._idle(axis, job) for axis in self.axes):
            problems.append("nothing varies in this job, since no 'when' holds; give a space for it")
        if problems:
            raise JobError(f"{self.source}: " + "; ".join(dict.fromkeys(problems)))

    def _axis(self, key: str) -> Axis | None:
        return next((axis for axis in self.axes if axis.key == key), None)

    def _where_it_varies(self, axis: Axis, job: JobConfig) -> Point | None:
        """Values of other keys with which an axis varies, those of the job where they will do; None where there are none."""
        point: Point = {}
        for key, allowed in axis.when.items():
            other, own = self._axis(key), value_at(job, key)
            reachable = sorted((v for v in allowed if other is None or other.holds(v)), key=lambda v: v != own)
            above = self._where_it_varies(other, job) if other else {}
            if not reachable or above is None:
                return None
            point |= {**above, key: reachable[0]}
        return point

    def _idle(self, axis: Axis, job: JobConfig) -> bool:
        """Whether an axis does not vary because of what the job says, which no other axis changes."""
        for key, allowed in axis.when.items():
            other = self._axis(key)
            if value_at(job, key) not in allowed and (other is None or self._idle(other, job)):
                return True
        return False

    def active(self, axis: Axis, point: Point, job: JobConfig) -> bool:
        """Whether an axis varies beside the values chosen so far."""
        return all(point.get(key, value_at(job, key)) in allowed for key, allowed in axis.when.items())

    def draw(self, trial: Trial, job: JobConfig) -> Point:
        """A point that Optuna suggests."""
        point: Point = {}
        for axis in self.axes:
            if self.active(axis, point, job):
                point[axis.key] = axis.draw(trial)
        return point

    def grid(self, job: JobConfig) -> list[Point]:
        """Every point, in the order of the axes.

        Raises:
            JobError: an axis has no end of values.
        """
        endless = [axis.key for axis in self.axes if axis.countable is None]
        if endless:
            raise JobError(
                f"{self.source}: {', '.join(endless)}: a grid needs values that can be counted; use quniform or choice"
            )
        points: list[Point] = [{}]
        for axis in self.axes:
            points = [
                {**point, **chosen}
                for point in points
                for chosen in ([{axis.key: v} for v in axis.countable or ()] if self.active(axis, point, job) else [{}])
            ]
        return points

    def point_of(self, job: JobConfig) -> Point | None:
        """The job itself as a point; None where one of its values is not in the space."""
        point: Point = {}
        for axis in self.axes:
            if self.active(axis, point, job):
                value = value_at(job, axis.key)
                if not axis.holds(value):
                    return None
                point[axis.key] = value
        return point

    def sections(self, job: JobConfig) -> Iterator[Point]:
        """Every combination of what varies in ``data``, and of the keys that decide whether it does.

        Raises:
            JobError: there is no end of them.
        """
        wanted = {axis.key for axis in self.axes if axis.key.startswith("data.")}
        for axis in reversed(self.axes):  # what a condition names stands above it
            wanted |= set(axis.when) if axis.key in wanted else set()
        yield from Space(self.source, self.method, tuple(axis for axis in self.axes if axis.key in wanted)).grid(job)

    def job_at(self, point: Point, job: JobConfig) -> JobConfig:
        """The job with the values of a point.

        Raises:
            JobError: the values do not fit together.
        """
        document = job.model_dump(mode="json")
        for key, value in point.items():
            section, name = key.split(".", 1)
            document[section][name] = value
        return resolve(document, self.source)


def value_at(job: JobConfig, key: str) -> Any:
    """The value of a dotted key of a job.

    Raises:
        JobError: no such key.
    """
    section, _, name = key.partition(".")
    holder = job.model_dump(mode="json").get(section)
    if not isinstance(holder, dict) or name not in holder:
        raise JobError(f"{key}: no such key of a {job.method} job; {_near(key, job.method)}")
    return holder[name]


def read_space(path: Path) -> Space:
    """Read a space file.

    Raises:
        JobError: it cannot be read, or is no space; every problem at once.
    """
    return parse_space(read_yaml(path, "space", "give a YAML file such as tune_spaces/cdo.yaml"), f"space '{path}'")


def parse_space(document: object, source: str) -> Space:
    """Make a space of what a file holds.

    Raises:
        JobError: it is no space; every problem at once.
    """
    if not isinstance(document, dict) or set(document) != {"method", "axes"} or not isinstance(document["axes"], dict):
        got = sorted(map(str, document)) if isinstance(document, dict) else type(document).__name__
        raise JobError(
            f"{source}: got {got}, needs the keys method and axes; axes is a mapping of keys to what they vary between"
        )
    try:
        methods.spec(str(document["method"]))
    except AdjobsError as error:
        raise JobError(f"{source}: {error}") from error
    axes: list[Axis] = []
    problems: list[str] = []
    for key, told in document["axes"].items():
        try:
            axes.append(_axis(str(key), told, str(document["method"]), [axis.key for axis in axes], list(document["axes"])))
        except ValueError as error:
            problems.append(f"{key}: {error}")
    if not document["axes"]:
        problems.append("axes: got none; give at least one")
    if problems:
        raise JobError(f"{source}: " + "; ".join(problems))
    return Space(source, str(document["method"]), tuple(axes))


def _axis(key: str, told: object, method: str, before: Sequence[str], every: Sequence[str]) -> Axis:
    if not key.startswith("params.") and key not in FREE:
        raise ValueError(f"may not vary in a search; {_near(key, method)}, or one of {', '.join(FREE)}")
    kinds = [name for name in told if name != "when"] if isinstance(told, dict) else []
    if not isinstance(told, dict) or len(kinds) != 1 or kinds[0] not in KINDS:
        allowed = "; ".join(f"{name}: {values}" for name, values in KINDS.items())
        raise ValueError(f"got {told!r}, needs one of {allowed}")
    values = tuple(told[kinds[0]]) if isinstance(told[kinds[0]], list) else ()
    if not _right(kinds[0], values):
        raise ValueError(f"{kinds[0]}: got {told[kinds[0]]!r}, needs {KINDS[kinds[0]]}")
    when = told.get("when") or {}
    if not isinstance(when, dict):
        raise ValueError(f"when: got {when!r}, needs a mapping of keys to a value or a list of values")  # noqa: TRY004
    late = [other for other in when if other in every and other not in before]
    if late:
        raise ValueError(f"when: {', '.join(late)} must stand above it")
    return Axis(key, kinds[0], values, {name: tuple(v) if isinstance(v, list) else (v,) for name, v in when.items()})


def _right(kind: str, values: tuple[Any, ...]) -> bool:
    """Whether the values are such as a kind needs."""
    if kind == "choice":
        return len(values) > 0 and all(value is None or isinstance(value, str | int | float) for value in values)
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) != len(values) or len(values) != (3 if kind == "quniform" else 2) or not all(map(math.isfinite, numbers)):
        return False
    low, high, *step = numbers
    if kind == "randint":
        return low < high and all(isinstance(value, int) for value in values)
    if kind == "loguniform":
        return 0 < low < high
    return low < high and (not step or (step[0] > 0 and math.isclose((high - low) / step[0], round((high - low) / step[0]))))


def in_words(point: Mapping[str, Any]) -> str:
    """A point in short: ``gamma 2.46, lr 0.000213``."""
    short = [f"{key.split('.', 1)[1]} {f'{value:.3g}' if isinstance(value, float) else value}" for key, value in point.items()]
    return ", ".join(short) or "the job as it is"


def _near(key: str, method: str) -> str:
    names = [f"params.{name}" for name in methods.config_class(method).model_fields]
    return choices(key if "." in key else f"params.{key}", names)


def _plain(value: float) -> float:
    """0.3 in place of 0.30000000000000004."""
    return float(f"{value:.12g}")


def overlaps(parts: Sequence[tuple[str, frozenset[str], frozenset[str]]]) -> str | None:
    """Say where one division chooses by pictures that another tests on; None where none does.

    Args:
        parts: name of a division, the pictures that it trains and validates on, those that it tests on.
    """
    for (one, chosen, _), (other, _, tested) in itertools.permutations(parts, 2):
        shared = len(chosen & tested)
        if shared:
            return f"with {one}, {shared} pictures train or validate that are test pictures with {other}"
    return None
