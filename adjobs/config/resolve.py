"""From a job file to a :class:`JobConfig`: read, override, validate, fill in defaults; all mistakes are reported at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from adjobs import methods
from adjobs.config.job import JobConfig, PixelThresholdSection, ThresholdSection
from adjobs.errors import JobError, choices, one_line
from adjobs.metrics.policies import DEFAULT_MAX_FPR, DEFAULT_PIXEL_MAX_FPR, ThresholdPolicy


def read_job(path: Path) -> dict[str, Any]:
    """The mapping in a job file.

    Raises:
        JobError: no such file, not YAML, or not a mapping.
    """
    document = read_yaml(path, "job file", "give the path of a YAML job file")
    if not isinstance(document, dict):
        raise JobError(f"job file '{path}': got {type(document).__name__}; must be a mapping with the keys method and data")
    return document


def read_yaml(path: Path, kind: str, advice: str) -> Any:
    """Content of a YAML file.

    Args:
        path: the file.
        kind: what the file is, such as ``job file``, for the error.
        advice: what to do if it cannot be read, such as ``give the path of a YAML job file``, for the error.

    Raises:
        JobError: no such file, or not YAML.
    """
    try:
        return yaml.safe_load(path.read_text())
    except OSError as error:
        raise JobError(f"{kind} '{path}': cannot be read ({error.strerror}); {advice}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise JobError(f"{kind} '{path}': not valid YAML ({one_line(error)})") from error


def override(document: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Apply ``key.path=value`` overrides, with values in YAML, to a copy of a job mapping.

    >>> override({"method": "cdo"}, ["params.gamma=3"])
    {'method': 'cdo', 'params': {'gamma': 3}}

    Raises:
        JobError: an override without '=', or with a path through something that is not a mapping.
    """
    result: dict[str, Any] = yaml.safe_load(yaml.safe_dump(document))
    for setting in overrides:
        path, equals, text = setting.partition("=")
        if not equals or not path:
            raise JobError(f"--set '{setting}': give key=value, such as params.gamma=3")
        *parents, last = path.split(".")
        section = result
        for key in parents:
            if section.get(key) is None:
                section[key] = {}
            section = section[key]
            if not isinstance(section, dict):
                raise JobError(f"--set '{setting}': '{key}' is a value, not a section")
        try:
            section[last] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise JobError(f"--set '{setting}': '{text}' is not a YAML value ({one_line(error)})") from error
    return result


def resolve(document: Mapping[str, Any], source: str = "job") -> JobConfig:
    """Validate a job mapping and fill in every default, those of the method and its preset included.

    Raises:
        JobError: every problem at once, each with what was got and what is allowed.
    """
    problems: list[str] = []
    job: JobConfig | None = None
    try:
        job = JobConfig.model_validate(dict(document))
    except ValidationError as error:
        problems += explain(error, JobConfig)
    params, param_problems = _resolve_params(document)
    problems += param_problems
    if problems or job is None:
        raise JobError(f"{source}: " + "; ".join(problems))
    sections = {"threshold": _resolve_threshold(job, source), "pixel_threshold": _resolve_pixels(job, params, source)}
    return job.model_copy(update={"params": params, **sections})


def _resolve_threshold(job: JobConfig, source: str) -> ThresholdSection:
    """The section with the method's policy and value in place of null, checked again with them."""
    section = job.threshold
    policy, value = section.policy, section.value
    if policy is None:
        policy, default = methods.spec(job.method).threshold
        value = default if value is None else value
    elif policy == "max_fpr" and value is None:
        value = DEFAULT_MAX_FPR
    fault = ThresholdPolicy(policy, value, strict=section.strict).find_fault()
    if fault:
        raise JobError(f"{source}: threshold: {fault}")
    return section.model_copy(update={"policy": policy, "value": value})


def _resolve_pixels(job: JobConfig, params: Mapping[str, Any], source: str) -> PixelThresholdSection:
    """The section with the default rate of max_fpr; a null policy stays, since it depends on the masks of validation."""
    section = job.pixel_threshold
    if section.policy is not None and not methods.gives_map(job.method, params):
        reason = f"{job.method} has no anomaly maps{methods.map_param_hint(job.method)}"
        raise JobError(f"{source}: pixel_threshold: got policy {section.policy}, but {reason}; leave pixel_threshold out")
    default = DEFAULT_PIXEL_MAX_FPR if section.policy == "max_fpr" else None
    return section.model_copy(update={"value": default if section.value is None else section.value})


def _resolve_params(document: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The method's parameters and their problems: defaults, then the preset, then what the user set."""
    name, params, preset = document.get("method"), document.get("params") or {}, document.get("preset")
    if not isinstance(name, str) or not isinstance(params, dict):
        return {}, []  # reported by the validation of the whole job
    try:
        config = methods.config_class(name)
        base = _preset(name, preset)
    except JobError as error:
        return {}, [str(error)]
    try:
        return config.model_validate({**base, **params}).model_dump(mode="json"), []
    except ValidationError as error:
        return {}, explain(error, config, "params")


def _preset(method: str, preset: object) -> dict[str, object]:
    if preset is None:
        return {}
    presets = methods.presets(method)
    if not isinstance(preset, str) or preset not in presets:
        raise JobError(f"preset: unknown preset '{preset}' of {method}; {choices(str(preset), presets)}")
    return dict(presets[preset])


def explain(error: ValidationError, model: type[BaseModel], prefix: str = "") -> list[str]:
    """Pydantic's errors, one line each: the key, what was got, what is allowed."""
    lines = []
    for item in error.errors():
        path = [key for key in item["loc"] if isinstance(key, str)]
        # A union reports one error per member, with the member's name last; only the key means something to the user.
        if item["type"] != "extra_forbidden":
            path = _known_keys(path, model)
        key = ".".join([prefix, *path] if prefix else path)
        if item["type"] == "extra_forbidden":
            lines.append(f"{key}: unknown key; {choices(path[-1], _fields(model, path[:-1]))}")
        elif item["type"] == "value_error" and isinstance(item["input"], dict):
            # Of a whole section: the text names the key; the input would be that section with all its defaults.
            lines.append(f"{key}{': ' if path else '.'}{item['ctx']['error']}")
        elif item["type"] == "missing":
            lines.append(f"{key}: missing; {_describe(model, path)}")
        else:
            lines.append(f"{key}: got {item['input']!r}; {_in_words(item['msg'])}")
    return list(dict.fromkeys(lines))


def _in_words(message: str) -> str:
    """Pydantic's 'Input should be …' as 'must be …'; anything else with a small letter."""
    message = message.replace("Input should be", "must be").replace("should have", "must have")
    return message[0].lower() + message[1:]


def _fields(model: type[BaseModel], path: list[str]) -> list[str]:
    for key in path:
        annotation = model.model_fields[key].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return list(model.model_fields)


def _known_keys(path: list[str], model: type[BaseModel]) -> list[str]:
    """The leading keys of a path that are fields."""
    known: list[str] = []
    for key in path:
        if key not in _fields(model, known):
            break
        known.append(key)
    return known or path


def _describe(model: type[BaseModel], path: list[str]) -> str:
    for key in path[:-1]:
        annotation = model.model_fields[key].annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            model = annotation
    return model.model_fields[path[-1]].description or "this key is required"
