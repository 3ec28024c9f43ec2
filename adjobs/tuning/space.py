"""Search spaces: which keys of a job vary, and how.

A space file is YAML::

    method: cdo
    parameters:
      params.gamma: {uniform: [0, 4]}
      params.lr: {loguniform: [1.0e-4, 1.0e-2]}
      params.last_level: {randint: [1, 3]}                             # both ends included
      params.sigma: {quniform: [0, 6, 0.5]}                            # low, high, step
      data.image_size: {choice: [128, 256]}
      params.rectangles: {randint: [1, 8], when: {params.mom: true}}   # only with this value of an earlier key or of the job
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adjobs import methods
from adjobs.config.job import JobConfig
from adjobs.config.resolve import read_yaml, resolve
from adjobs.documents import InvalidDocumentError, to_plain
from adjobs.errors import AdjobsError, JobError, join_problems, shorten
from adjobs.tuning.parameter import Parameter, key_hint, parse_parameter

if TYPE_CHECKING:
    from optuna import Trial

MAX_GRID_POINTS = 100_000
"""As many as ``--trials`` allows."""

MAX_DATA_VARIANTS = 1000
"""Each is checked and split before the search starts."""

TrialParams = dict[str, Any]
"""Values of the keys that vary, by key; empty: the job as it is."""


@dataclass(frozen=True)
class Space:
    """All parameters, in the order in which they are drawn.

    Attributes:
        source: what error messages call it.
        method: of the jobs that it fits.
        parameters: those that vary.
    """

    source: str
    method: str
    parameters: tuple[Parameter, ...]

    def check(self, job: JobConfig) -> None:
        """Try the bounds of every parameter on the job; where ``when`` needs other values, together with those.

        Raises:
            JobError: all that the method's configuration or the job refuses, at once.
        """
        problems = [] if job.method == self.method else [f"method: got {self.method}, the job's is {job.method}"]
        activating: dict[str, TrialParams | None] = {}
        for parameter in self.parameters if not problems else ():
            try:
                context = activating[parameter.key] = self._activating_params(parameter, job, activating)
            except JobError as error:
                problems.append(str(error))
                continue
            if context is None:
                problems.append(f"{parameter.key}: its 'when' never holds in this space; change it, or leave the key out")
                continue
            for bound in parameter.bounds:
                try:
                    self.apply({**context, parameter.key: bound}, job)
                except JobError as error:
                    problems.append(str(error).removeprefix(f"{shorten(self.source)}: "))
        if not problems and not self._can_vary(job):
            problems.append("nothing varies in this job, because no 'when' holds; use another space for it")
        if problems:
            raise JobError(f"{shorten(self.source)}: {join_problems(problems)}")

    def _find(self, key: str) -> Parameter | None:
        return next((parameter for parameter in self.parameters if parameter.key == key), None)

    def _activating_params(
        self, parameter: Parameter, job: JobConfig, activating: Mapping[str, TrialParams | None]
    ) -> TrialParams | None:
        """Values of other keys with which a parameter varies, the job's own where possible; None where there are none.

        Args:
            parameter: the parameter.
            job: the job.
            activating: such values for all earlier parameters.
        """
        params: TrialParams = {}
        for key, allowed in parameter.when.items():
            other, job_value = self._find(key), value_at(job, key)
            reachable = [value for value in allowed if other is None or other.contains(value)]
            others = activating.get(key) if other else {}
            if not reachable or others is None:
                return None
            params |= {**others, key: min(reachable, key=lambda value: value != job_value)}
        return params

    def _can_vary(self, job: JobConfig) -> bool:
        """Whether some parameter can vary with the values of the job that no other parameter changes."""
        active: set[str] = set()
        for parameter in self.parameters:
            conditions = parameter.when.items()
            if all(value_at(job, key) in allowed or key in active for key, allowed in conditions):
                active.add(parameter.key)
        return bool(active)

    def is_active(self, parameter: Parameter, params: TrialParams, job: JobConfig) -> bool:
        """Whether a parameter varies beside the values chosen so far."""
        conditions = parameter.when.items()
        return all((params[key] if key in params else value_at(job, key)) in allowed for key, allowed in conditions)

    def suggest(self, trial: Trial, job: JobConfig) -> TrialParams:
        """Values from Optuna's sampler."""
        params: TrialParams = {}
        for parameter in self.parameters:
            if self.is_active(parameter, params, job):
                params[parameter.key] = parameter.suggest(trial)
        return params

    def grid(self, job: JobConfig, max_points: int = MAX_GRID_POINTS) -> list[TrialParams]:
        """All combinations, in the order of the parameters.

        Raises:
            JobError: a parameter is continuous, or there are more than ``max_points`` combinations.
        """
        continuous = [parameter.key for parameter in self.parameters if parameter.size is None]
        if continuous:
            raise JobError(
                f"{self.source}: {', '.join(continuous)}: a grid needs a finite number of values; use quniform or choice"
            )
        grid: list[TrialParams] = [{}]
        for parameter in self.parameters:
            active = [self.is_active(parameter, params, job) for params in grid]
            if sum(active) * (parameter.size or 0) + active.count(False) > max_points:
                raise JobError(f"{self.source}: {parameter.key}: more than {max_points} combinations; use fewer values")
            values = [{parameter.key: value} for value in parameter.grid_values()]
            grid = [
                {**params, **chosen}
                for params, is_active in zip(grid, active, strict=True)
                for chosen in (values if is_active else [{}])
            ]
        return grid

    def params_of(self, job: JobConfig) -> TrialParams | None:
        """The job's own values; None where one of them is not in the space."""
        params: TrialParams = {}
        for parameter in self.parameters:
            if self.is_active(parameter, params, job):
                value = value_at(job, parameter.key)
                if not parameter.contains(value):
                    return None
                params[parameter.key] = value
        return params

    def data_variants(self, job: JobConfig) -> Iterator[TrialParams]:
        """Every combination of what varies in ``data``, and of the keys that decide whether it does.

        Raises:
            JobError: one of them is continuous, or there are more than `MAX_DATA_VARIANTS`.
        """
        keys = {parameter.key for parameter in self.parameters if parameter.key.startswith("data.")}
        for parameter in reversed(self.parameters):  # conditions name earlier keys
            keys |= set(parameter.when) if parameter.key in keys else set()
        parameters = tuple(parameter for parameter in self.parameters if parameter.key in keys)
        yield from Space(self.source, self.method, parameters).grid(job, MAX_DATA_VARIANTS)

    def apply(self, params: TrialParams, job: JobConfig) -> JobConfig:
        """The job with the values of a trial.

        Raises:
            JobError: the values do not fit together.
        """
        document = job.model_dump(mode="json")
        for key, value in params.items():
            section, name = key.split(".", 1)
            document[section][name] = value
        return resolve(document, self.source)

    def to_dict(self) -> dict[str, Any]:
        """As in a space file."""
        return {"method": self.method, "parameters": {parameter.key: parameter.to_dict() for parameter in self.parameters}}


def value_at(job: JobConfig, key: str) -> Any:
    """The value of a dotted key of a job.

    Raises:
        JobError: no such key.
    """
    section, _, name = key.partition(".")
    values = job.model_dump(mode="json", include={section}).get(section)
    if not isinstance(values, dict) or name not in values:
        raise JobError(f"{shorten(key)}: unknown key of a {job.method} job; {key_hint(key, job.method)}")
    return values[name]


def read_space(path: Path) -> Space:
    """Read a space file.

    Raises:
        JobError: it cannot be read, or is not a space; every problem at once.
    """
    return parse_space(read_yaml(path, "space", "give a YAML file such as tune_spaces/cdo.yaml"), f"space '{path}'")


def parse_space(document: object, source: str) -> Space:
    """Make a space from the content of a file.

    Args:
        document: the content.
        source: what error messages call it.

    Raises:
        JobError: it is not a space; every problem at once.
    """
    try:
        document = to_plain(document)
    except InvalidDocumentError as error:
        raise JobError(f"{shorten(source)}: {error}") from error
    source = shorten(source)
    is_mapping = isinstance(document, dict) and set(document) == {"method", "parameters"}
    if not isinstance(document, dict) or not is_mapping or not isinstance(document["parameters"], dict):
        content = shorten(str(sorted(document))) if isinstance(document, dict) else type(document).__name__
        raise JobError(f"{source}: got {content}, needs the keys method and parameters (a mapping of keys to distributions)")
    method = str(document["method"])
    try:
        methods.spec(method)
    except AdjobsError as error:
        raise JobError(f"{source}: {error}") from error
    parameters: list[Parameter] = []
    problems: list[str] = []
    keys = list(document["parameters"])
    for key, definition in document["parameters"].items():
        earlier = [parameter.key for parameter in parameters]
        try:
            parameters.append(parse_parameter(key, definition, method, earlier, keys))
        except ValueError as error:
            problems.append(f"{shorten(key)}: {error}")
    if not keys:
        problems.append("parameters: got none; give at least one")
    if problems:
        raise JobError(f"{source}: {join_problems(problems)}")
    return Space(source, method, tuple(parameters))


def format_params(params: Mapping[str, Any]) -> str:
    """Values in short: ``gamma 2.46, lr 0.000213``."""
    texts = [f"{key.split('.', 1)[1]} {f'{value:.3g}' if isinstance(value, float) else value}" for key, value in params.items()]
    return ", ".join(texts) or "the job as it is"
