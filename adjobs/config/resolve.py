"""From a job file to a :class:`JobConfig`: reading, overriding, validating, every default filled in, all mistakes at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from adjobs import methods
from adjobs.config.job import JobConfig, PixelThresholdSection, ThresholdSection
from adjobs.errors import JobError, choices, one_line
from adjobs.metrics.policies import DEFAULT_MAX_FPR, DEFAULT_PIXEL_MAX_FPR, wrong_value


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
        got = f"got policy {given.policy}, but {job.method} gives no maps{methods.map_param_hint(job.method)}"
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
