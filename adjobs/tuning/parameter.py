"""One parameter of a search space: a key of the job, the distribution of its values, and when it varies at all."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from adjobs import methods
from adjobs.errors import choices, shown

if TYPE_CHECKING:
    from optuna import Trial

Distribution = Literal["uniform", "loguniform", "quniform", "randint", "choice"]

DISTRIBUTIONS = {
    "uniform": "[low, high]",
    "loguniform": "[low, high], both above 0",
    "quniform": "[low, high, step], a whole number of steps apart, at most 1e11 steps from 0",
    "randint": "[low, high], whole numbers up to 2**40, both included",
    "choice": "a list of up to 1000 different words, numbers, booleans or null",
}
MAX_CHOICES = 1000
MAX_INTEGER = 2**40
"""TPE adds the probabilities of neighbouring whole numbers, which vanish in wider ranges."""
MAX_NUMBER = 1e150
"""Samplers square distances."""
MAX_STEPS = 10**11
"""From zero to a value of quniform; values are rounded to 12 digits."""

# Keys besides params that may vary: not the images, not the seeds, nothing that comes after the training.
JOB_KEYS = (
    "data.image_size",
    "data.protocol",
    "data.max_train_anomalies",
    "data.label_detail",
    "data.block_size",
    "train.precision",
)


@dataclass(frozen=True)
class Parameter:
    """A key of the job that varies.

    Attributes:
        key: dotted, such as ``params.gamma``.
        distribution: how its values are drawn.
        values: for ``choice`` the options, else low, high and for ``quniform`` the step.
        when: values of other keys with which this one varies; empty: it always does.
    """

    key: str
    distribution: Distribution
    values: tuple[Any, ...]
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    @property
    def bounds(self) -> tuple[Any, ...]:
        """Lowest and highest value; for a choice all of them."""
        return self.values if self.distribution == "choice" else self.values[:2]

    @property
    def size(self) -> int | None:
        """Number of values; None for continuous distributions."""
        if self.distribution == "choice":
            return len(self.values)
        if self.distribution == "randint":
            return int(self.values[1] - self.values[0] + 1)
        if self.distribution == "quniform":
            low, high, step = self.values
            steps: int = round((high - low) / step)
            return steps + 1
        return None

    def grid_values(self) -> Iterator[Any]:
        """All values in order, made one by one; none for continuous distributions."""
        if self.distribution == "choice":
            yield from self.values
        else:
            yield from map(self._value, range(self.size or 0))

    def _value(self, index: int) -> float:
        """A value of the grid of numbers."""
        if self.distribution == "randint":
            return int(self.values[0] + index)
        return _without_float_noise(self.values[0] + index * self.values[2])

    def contains(self, value: object) -> bool:
        """Whether the parameter can have this value."""
        if self.distribution == "choice":
            return any(_is_same(value, other) for other in self.values)
        if not isinstance(value, int | float) or isinstance(value, bool) or not self.values[0] <= value <= self.values[1]:
            return False
        if self.size is None:
            return True
        step = 1 if self.distribution == "randint" else self.values[2]
        return value == self._value(round((value - self.values[0]) / step))

    def suggest(self, trial: Trial) -> Any:
        """A value from Optuna's sampler."""
        if self.distribution == "choice":
            return trial.suggest_categorical(self.key, self.values)
        low, high, *step = self.values
        if self.distribution == "randint":
            return trial.suggest_int(self.key, low, high)
        value = trial.suggest_float(self.key, low, high, log=self.distribution == "loguniform", step=step[0] if step else None)
        return _without_float_noise(value) if step else value

    def to_dict(self) -> dict[str, Any]:
        """As in a space file."""
        when = {"when": {key: list(values) for key, values in self.when.items()}} if self.when else {}
        return {self.distribution: list(self.values), **when}


def parse_parameter(key: str, definition: object, method: str, earlier: Sequence[str], all_keys: Sequence[str]) -> Parameter:
    """Parse one entry of a space file.

    Args:
        key: of the job.
        definition: its entry: a mapping of one distribution to its values, and perhaps ``when``.
        method: of the space.
        earlier: keys that stand above this one in the file.
        all_keys: all keys of the file.

    Raises:
        ValueError: what is wrong, without the key.
    """
    if not key.startswith("params.") and key not in JOB_KEYS:
        raise ValueError(f"may not vary in a search; {key_hint(key, method)}, or one of {', '.join(JOB_KEYS)}")
    named = [name for name in get_args(Distribution) if isinstance(definition, dict) and name in definition]
    if not isinstance(definition, dict) or len(named) != 1 or set(definition) - {*named, "when"}:
        allowed = "; ".join(f"{name}: {values}" for name, values in DISTRIBUTIONS.items())
        raise ValueError(f"got {shown(definition)}, needs one of {allowed}")
    distribution: Distribution = named[0]
    values = tuple(definition[distribution]) if isinstance(definition[distribution], list) else ()
    if not _are_valid(distribution, values):
        raise ValueError(f"{distribution}: got {shown(definition[distribution])}, needs {DISTRIBUTIONS[distribution]}")
    when = definition.get("when") or {}
    if not isinstance(when, dict):
        raise ValueError(f"when: got {shown(when)}, needs a mapping of keys to a value or a list of values")  # noqa: TRY004
    later = [other for other in when if other in all_keys and other not in earlier]
    if later:
        raise ValueError(f"when: {', '.join(later)} must be declared before it")
    conditions = {name: tuple(allowed) if isinstance(allowed, list) else (allowed,) for name, allowed in when.items()}
    return Parameter(key, distribution, values, conditions)


def _are_valid(distribution: Distribution, values: tuple[Any, ...]) -> bool:
    """Whether the values are what a distribution needs."""
    if distribution == "choice":
        are_scalars = all(value is None or isinstance(value, str | int | float) for value in values)
        return 0 < len(values) <= MAX_CHOICES and are_scalars and not _has_duplicates(values)
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    count = 3 if distribution == "quniform" else 2
    if len(numbers) != len(values) or len(values) != count or not all(abs(value) <= MAX_NUMBER for value in numbers):
        return False
    low, high, *step = numbers
    if not low < high:
        return False
    if distribution == "randint":
        return all(isinstance(value, int) and abs(value) <= MAX_INTEGER for value in values)
    return low > 0 if distribution == "loguniform" else not step or _is_step(low, high, step[0])


def _is_step(low: float, high: float, step: float) -> bool:
    """Whether whole numbers of steps lead from low to high, each to a value that 12 digits tell from its neighbours."""
    if step <= 0 or max(abs(low), abs(high)) > MAX_STEPS * step:
        return False
    return math.isclose((high - low) / step, round((high - low) / step))


def _is_same(value: object, other: object) -> bool:
    """Equal, where a boolean is not a number."""
    return value == other and isinstance(value, bool) == isinstance(other, bool)


def _has_duplicates(values: Sequence[object]) -> bool:
    return len({(value, isinstance(value, bool)) for value in values}) < len(values)


def key_hint(key: str, method: str) -> str:
    """The end of a message about an unknown key: the parameters of the method, and which one was probably meant."""
    names = [f"params.{name}" for name in methods.config_class(method).model_fields]
    return choices(key if "." in key else f"params.{key}", names)


def _without_float_noise(value: float) -> float:
    """0.3 in place of 0.30000000000000004."""
    return float(f"{value:.12g}")
