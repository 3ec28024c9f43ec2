"""The job file: one frozen, validated description of a run, the same for train, submit and resume."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from adjobs import methods
from adjobs.data.labels import Level, coarser
from adjobs.errors import JobError, choices, one_line
from adjobs.methods.contract import MethodConfig, Policy
from adjobs.metrics.policies import DEFAULT_MAX_FPR, DEFAULT_PIXEL_MAX_FPR, wrong_value


class Section(BaseModel):
    """A part of the job file: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataSection(Section):
    """Which pictures, and how they are split."""

    uri: str = Field(description="folder, s3://bucket/prefix, or 'elpv'")
    format: str = Field("auto", description="layout; auto recognises it")
    protocol: str = Field("holdout", description="how train, validation and test are made")
    k: int | None = Field(None, ge=0, description="most labelled anomalies in the training part; null: all of them")
    seed: int = Field(0, ge=0, lt=2**32, description="seed of the split")
    image_size: int = Field(256, ge=32, le=4096, multiple_of=32, description="side in pixels; pictures are stretched to a square")
    split: str | None = Field(None, description="file of a stored split, used in place of protocol, k and seed")
    labels: Level = Field("finest", description="what the training sees of its anomalies: all that is known, or coarser labels")
    block_size: int = Field(8, ge=2, le=512, description="side of a block in pixels, for labels: blocks")
    exclude_bad: bool = Field(
        False, description="leave out the pictures that 'adjobs data check' complains of, instead of stopping"
    )


class TrainSection(Section):
    """What the training runs on."""

    workers: int = Field(1, ge=1, le=1024, description="Ray Train workers; the batch is shared among them")
    gpus_per_worker: Annotated[float, Field(ge=0, le=64)] | Literal["auto"] = Field(
        "auto", description="auto: 1 where the cluster has one for each worker, else 0"
    )
    cpus_per_worker: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] = Field(
        "auto", description="auto: an equal share of the node, at most 8"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 on GPUs that have it, else fp32")
    max_retries: int = Field(3, ge=0, le=100, description="restarts from the last checkpoint after a worker died")
    seed: int = Field(0, ge=0, lt=2**32, description="seed of initialisation, order and simulated anomalies")
    validate_every: int = Field(1, ge=1, description="epochs between two looks at the validation part")


class ThresholdSection(Section):
    """How the decision threshold is chosen on the validation part."""

    policy: Policy | None = Field(
        None, description="fixed, max_f1, max_fpr, miss_cost or defect_ratio; null: the method's own, with its value"
    )
    value: float | None = Field(
        None,
        description="fixed: the threshold; max_fpr: largest false-alarm rate; miss_cost: cost of a miss over that of a false "
        "alarm; defect_ratio: share of images that is to raise an alarm, null: that of the anomalies in validation",
    )
    confidence: float = Field(0.95, gt=0, lt=1, description="confidence of the stated bound on the false-alarm rate")
    strict: bool = Field(False, description="max_fpr: the bound, not only the rate on validation, must keep to the value")

    @model_validator(mode="after")
    def _value_fits(self) -> Self:
        """A wrong value is refused before the training, not after it."""
        if self.policy is not None:
            value = DEFAULT_MAX_FPR if self.policy == "max_fpr" and self.value is None else self.value
            _refuse(wrong_value(self.policy, value, strict=self.strict))
        return self


class PixelThresholdSection(Section):
    """How the threshold for the pixels of anomaly maps is chosen on the validation part."""

    policy: Policy | None = Field(
        None,
        description=f"as for threshold; null: max_f1 where validation has masks, else max_fpr {DEFAULT_PIXEL_MAX_FPR}",
    )
    value: float | None = Field(None, description="as for threshold, counted in pixels; max_fpr: in those of good images")

    @model_validator(mode="after")
    def _value_fits(self) -> Self:
        """A wrong value is refused before the training, not after it."""
        if self.policy is None:
            _refuse(None if self.value is None else f"got value {self.value} without a policy; give a policy, or no value")
        elif self.policy != "max_fpr" or self.value is not None:
            _refuse(wrong_value(self.policy, self.value))
        return self


def _refuse(fault: str | None) -> None:
    if fault:
        raise ValueError(fault)


class TrackSection(Section):
    """Where the run is recorded."""

    experiment: str = Field("adjobs", min_length=1, description="MLflow experiment")
    model: str | None = Field(None, min_length=1, description="registered model that gets a new version; null: none")


class JobConfig(Section):
    """A whole job. ``params`` holds the method's parameters with every default filled in."""

    method: str
    data: DataSection
    params: dict[str, Any] = Field(default_factory=dict)
    preset: str | None = Field(None, description="named set of params: paper, or official where the published code differs")
    train: TrainSection = TrainSection()
    threshold: ThresholdSection = ThresholdSection()
    pixel_threshold: PixelThresholdSection = PixelThresholdSection()
    track: TrackSection = TrackSection()

    def to_yaml(self) -> str:
        """The resolved job as a job file."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)

    @property
    def labels(self) -> Level:
        """How much of its labels the training part shows: no more than ``data.labels``, and than the method learns from."""
        wanted = self.method_config().learns_from
        return coarser(self.data.labels, "image" if wanted in ("none", "image labels") else wanted)  # type: ignore[arg-type]

    @property
    def supervision(self) -> str:
        """The labels of anomalies that this job wants to learn from; see :data:`adjobs.methods.contract.Supervision`."""
        wanted = self.method_config().learns_from
        if wanted in ("none", "image labels"):
            return wanted
        return "image labels" if self.labels == "image" else self.labels

    def method_config(self) -> MethodConfig:
        """``params`` as the method's own configuration."""
        return methods.config_class(self.method)(**self.params)


def read_job(path: Path) -> dict[str, Any]:
    """The mapping in a job file.

    Raises:
        JobError: no such file, not YAML, or not a mapping.
    """
    document = read_yaml(path, "job file", "the path of a YAML job file")
    if not isinstance(document, dict):
        raise JobError(f"job file '{path}': got {type(document).__name__}, needs a mapping with the keys method and data")
    return document


def read_yaml(path: Path, what: str, give: str) -> Any:
    """What a YAML file holds.

    Args:
        path: the file.
        what: it is, for the error.
        give: what to give in its place, for the error.

    Raises:
        JobError: no such file, or not YAML.
    """
    try:
        return yaml.safe_load(path.read_text())
    except OSError as error:
        raise JobError(f"{what} '{path}': cannot be read ({error.strerror}); give {give}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise JobError(f"{what} '{path}': not YAML ({one_line(error)})") from error


def override(document: dict[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    """Apply ``key.path=value`` settings, values in YAML, to a copy of a job mapping.

    >>> override({"method": "cdo"}, ["params.gamma=3"])
    {'method': 'cdo', 'params': {'gamma': 3}}

    Raises:
        JobError: a setting without '=', or a path through something that is no mapping.
    """
    result: dict[str, Any] = yaml.safe_load(yaml.safe_dump(document))
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals or not path:
            raise JobError(f"--set '{setting}': give key=value, such as params.gamma=3")
        *parents, last = path.split(".")
        place = result
        for key in parents:
            if place.get(key) is None:
                place[key] = {}
            place = place[key]
            if not isinstance(place, dict):
                raise JobError(f"--set '{setting}': '{key}' holds a value, not a section")
        try:
            place[last] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise JobError(f"--set '{setting}': '{text}' is not a YAML value ({one_line(error)})") from error
    return result


def resolve(document: Mapping[str, Any], source: str = "job") -> JobConfig:
    """Validate a job mapping and fill in every default, the method's and its preset's included.

    Raises:
        JobError: every problem at once, each with what was got and what is allowed.
    """
    problems: list[str] = []
    job: JobConfig | None = None
    try:
        job = JobConfig.model_validate(dict(document))
    except ValidationError as error:
        problems += explain(error, JobConfig)
    params, found = _resolve_params(document)
    problems += found
    if problems or job is None:
        raise JobError(f"{source}: " + "; ".join(problems))
    sections = {"threshold": _resolve_threshold(job, source), "pixel_threshold": _resolve_pixels(job, params, source)}
    return job.model_copy(update={"params": params, **sections})


def _resolve_threshold(job: JobConfig, source: str) -> ThresholdSection:
    """The section with the method's own policy and value in place of null, checked again with them."""
    given = job.threshold
    policy, value = given.policy, given.value
    if policy is None:
        policy, default = methods.spec(job.method).threshold
        value = default if value is None else value
    elif policy == "max_fpr" and value is None:
        value = DEFAULT_MAX_FPR
    fault = wrong_value(policy, value, strict=given.strict)
    if fault:
        raise JobError(f"{source}: threshold: {fault}")
    return given.model_copy(update={"policy": policy, "value": value})


def _resolve_pixels(job: JobConfig, params: Mapping[str, Any], source: str) -> PixelThresholdSection:
    """The section with the default rate of max_fpr; a null policy stays, since only validation knows whether it has masks."""
    given = job.pixel_threshold
    if given.policy is not None and not methods.gives_map(job.method, params):
        got = f"got policy {given.policy}, but {job.method} gives no maps{methods.without_switch(job.method)}"
        raise JobError(f"{source}: pixel_threshold: {got}; leave pixel_threshold out")
    default = DEFAULT_PIXEL_MAX_FPR if given.policy == "max_fpr" else None
    return given.model_copy(update={"value": default if given.value is None else given.value})


def _resolve_params(document: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The method's parameters: defaults, then the preset, then what the user gave."""
    name, given, preset = document.get("method"), document.get("params") or {}, document.get("preset")
    if not isinstance(name, str) or not isinstance(given, dict):
        return {}, []  # said by the validation of the whole
    try:
        config = methods.config_class(name)
        base = _preset(name, preset)
    except JobError as error:
        return {}, [str(error)]
    try:
        return config(**{**base, **given}).model_dump(mode="json"), []
    except ValidationError as error:
        return {}, explain(error, config, "params")


def _preset(method: str, preset: object) -> dict[str, object]:
    if preset is None:
        return {}
    presets = methods.presets(method)
    if preset not in presets:
        raise JobError(f"preset '{preset}': {method} has no such preset; {choices(str(preset), presets)}")
    return dict(presets[str(preset)])


def explain(error: ValidationError, model: type[BaseModel], prefix: str = "") -> list[str]:
    """Pydantic's errors in the user's words: the key, what was got, what is allowed."""
    lines = []
    for item in error.errors():
        path = [part for part in item["loc"] if isinstance(part, str)]
        # A union reports one error per member, the member's name last; the key is what the user knows.
        if item["type"] != "extra_forbidden":
            path = _known(path, model)
        key = ".".join([prefix, *path] if prefix else path)
        if item["type"] == "extra_forbidden":
            lines.append(f"{key}: unknown key; {choices(path[-1], _fields(model, path[:-1]))}")
        elif item["type"] == "value_error" and isinstance(item["input"], dict):
            # Of a whole section: its text names the key, and what was got is that section with all its defaults.
            lines.append(f"{key}{': ' if path else '.'}{item['ctx']['error']}")
        elif item["type"] == "missing":
            lines.append(f"{key}: missing; {_describe(model, path)}")
        else:
            lines.append(f"{key}: got {item['input']!r}; {item['msg'][0].lower()}{item['msg'][1:]}")
    return list(dict.fromkeys(lines))


def _fields(model: type[BaseModel], path: list[str]) -> list[str]:
    for part in path:
        annotation = model.model_fields[part].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return list(model.model_fields)


def _known(path: list[str], model: type[BaseModel]) -> list[str]:
    """The leading part of a path that names fields."""
    known: list[str] = []
    for part in path:
        if part not in _fields(model, known):
            break
        known.append(part)
    return known or path


def _describe(model: type[BaseModel], path: list[str]) -> str:
    for part in path[:-1]:
        annotation = model.model_fields[part].annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            model = annotation
    return model.model_fields[path[-1]].description or "this key is required"
