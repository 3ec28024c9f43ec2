"""One parameter of a search space: a key of the job, the distribution of its values, and when it varies at all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from adjobs import methods
from adjobs.errors import choices

if TYPE_CHECKING:
    from optuna import Trial

Distribution = Literal["uniform", "loguniform", "quniform", "randint", "choice"]

DISTRIBUTIONS = {
    "uniform": "[low, high]",
    "loguniform": "[low, high], both above 0",
    "quniform": "[low, high, step], a whole number of steps apart",
    "randint": "[low, high], whole numbers, both included",
    "choice": "a list of words, numbers, booleans or null",
}
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
    def grid_values(self) -> tuple[Any, ...] | None:
        """All values in order; None for continuous distributions."""
        if self.distribution == "choice":
            return self.values
        if self.distribution == "randint":
            return tuple(range(self.values[0], self.values[1] + 1))
        if self.distribution == "quniform":
            low, high, step = self.values
            return tuple(_without_float_noise(low + i * step) for i in range(round((high - low) / step) + 1))
        return None

    def contains(self, value: object) -> bool:
        """Whether the parameter can have this value."""
        if self.grid_values is not None:
            return any(value == other and isinstance(value, bool) == isinstance(other, bool) for other in self.grid_values)
        return isinstance(value, int | float) and not isinstance(value, bool) and self.values[0] <= value <= self.values[1]

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
        raise ValueError(f"got {definition!r}, needs one of {allowed}")
    distribution: Distribution = named[0]
    values = tuple(definition[distribution]) if isinstance(definition[distribution], list) else ()
    if not _are_valid(distribution, values):
        raise ValueError(f"{distribution}: got {definition[distribution]!r}, needs {DISTRIBUTIONS[distribution]}")
    when = definition.get("when") or {}
    if not isinstance(when, dict):
        raise ValueError(f"when: got {when!r}, needs a mapping of keys to a value or a list of values")  # noqa: TRY004
    later = [other for other in when if other in all_keys and other not in earlier]
    if later:
        raise ValueError(f"when: {', '.join(later)} must be declared before it")
    conditions = {name: tuple(allowed) if isinstance(allowed, list) else (allowed,) for name, allowed in when.items()}
    return Parameter(key, distribution, values, conditions)


def _are_valid(distribution: Distribution, values: tuple[Any, ...]) -> bool:
    """Whether the values are what a distribution needs."""
    if distribution == "choice":
        return len(values) > 0 and all(value is None or isinstance(value, str | int | float) for value in values)
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    count = 3 if distribution == "quniform" else 2
    if len(numbers) != len(values) or len(values) != count or not all(map(math.isfinite, numbers)):
        return False
    low, high, *step = numbers
    if distribution == "randint":
        return low < high and all(isinstance(value, int) for value in values)
    if distribution == "loguniform":
        return 0 < low < high
    return low < high and (not step or (step[0] > 0 and math.isclose((high - low) / step[0], round((high - low) / step[0]))))


def key_hint(key: str, method: str) -> str:
    """The end of a message about an unknown key: the parameters of the method, and which one was probably meant."""
    names = [f"params.{name}" for name in methods.config_class(method).model_fields]
    return choices(key if "." in key else f"params.{key}", names)


def _without_float_noise(value: float) -> float:
    """0.3 in place of 0.30000000000000004."""
    return float(f"{value:.12g}")
