"""From a job file to a :class:`JobConfig`: read, override, validate, fill in defaults; all mistakes are reported at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from adjobs import methods
from adjobs.config.job import JobConfig, PixelThresholdSection, Section, ThresholdSection
from adjobs.documents import MAX_BYTES, MAX_DEPTH, InvalidDocumentError, load_yaml, to_plain
from adjobs.errors import JobError, choices, join_problems, shorten, shown
from adjobs.methods.contract import Spec
from adjobs.metrics.policies import DEFAULT_MAX_FPR, DEFAULT_PIXEL_MAX_FPR, ThresholdPolicy

SectionModel = TypeVar("SectionModel", bound=Section)

_PLAIN_WORDS = {
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid boolean": "true or false",
    "a valid string": "text",
    "a valid dictionary": "a section of keys and values",
    "a valid tuple": "a list",
    "String must have at least 1 character": "must not be empty",
}


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
    place = f"{kind} '{shorten(str(path))}'"
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise JobError(f"{place}: not valid YAML (byte {error.start + 1} is not UTF-8); {advice}") from error
    except (OSError, ValueError) as error:  # a path with NUL, too
        reason = error.strerror if isinstance(error, OSError) else error
        raise JobError(f"{place}: cannot be read ({reason}); {advice}") from error
    if len(content) > MAX_BYTES:
        raise JobError(f"{place}: larger than {MAX_BYTES // 2**20} MiB; {advice}")
    try:
        return load_yaml(text)
    except InvalidDocumentError as error:
        raise JobError(f"{place}: not valid YAML ({error})") from error


def override(document: Mapping[str, Any], overrides: Iterable[str], source: str = "job") -> dict[str, Any]:
    """Apply ``key.path=value`` overrides, with values in YAML, to a copy of a job mapping.

    >>> override({"method": "cdo"}, ["params.gamma=3"])
    {'method': 'cdo', 'params': {'gamma': 3}}

    Raises:
        JobError: a value that no job file can hold; an override without '=', or with a path through something that is not a
            mapping.
    """
    try:
        result: dict[str, Any] = to_plain(document)
    except InvalidDocumentError as error:
        raise JobError(f"{source}: {error}") from error
    for setting in overrides:
        path, equals, text = setting.partition("=")
        *parents, last = path.split(".")
        place = f"--set {shown(setting)}"
        if not equals or not all([*parents, last]) or len(parents) > MAX_DEPTH:
            raise JobError(f"{place}: give key=value, such as params.gamma=3")
        section = result
        for key in parents:
            if section.get(key) is None:
                section[key] = {}
            section = section[key]
            if not isinstance(section, dict):
                raise JobError(f"{place}: {shown(key)} is a value, not a section")
        try:
            section[last] = load_yaml(text)
        except InvalidDocumentError as error:
            raise JobError(f"{place}: the value is not valid YAML ({error})") from error
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
    threshold, threshold_problems = _resolve_threshold(document)
    pixels, pixel_problems = _resolve_pixels(document, params)
    problems += param_problems + threshold_problems + pixel_problems
    if problems or job is None:
        raise JobError(f"{shorten(source)}: {join_problems(problems)}")
    return job.model_copy(update={"params": params, "threshold": threshold, "pixel_threshold": pixels})


def resolve_without_method(document: Mapping[str, Any], source: str = "job") -> JobConfig:
    """Validate what does not depend on the method, which this process does not have.

    Raises:
        JobError: every problem at once, as far as they can be found.
    """
    try:
        return JobConfig.model_validate(dict(document))
    except ValidationError as error:
        raise JobError(f"{shorten(source)}: {join_problems(explain(error, JobConfig))}") from error


def _valid_section(document: Mapping[str, Any], key: str, model: type[SectionModel]) -> SectionModel | None:
    """A section of the document; None if it is invalid, which the validation of the whole job reports."""
    try:
        return model.model_validate(document.get(key, {}))
    except ValidationError:
        return None


def _known_spec(document: Mapping[str, Any]) -> Spec | None:
    """The specification of the document's method; None if there is none, which ``_resolve_params`` reports."""
    try:
        return methods.spec(document["method"]) if isinstance(document.get("method"), str) else None
    except JobError:
        return None


def _resolve_threshold(document: Mapping[str, Any]) -> tuple[ThresholdSection | None, list[str]]:
    """The section with the method's policy and value in place of null, and what is wrong with them."""
    section, spec = _valid_section(document, "threshold", ThresholdSection), _known_spec(document)
    if section is None or spec is None:
        return None, []
    policy, value = section.policy, section.value
    if policy is None:
        policy, default = spec.threshold
        value = default if value is None else value
    elif policy == "max_fpr" and value is None:
        value = DEFAULT_MAX_FPR
    fault = ThresholdPolicy(policy, value, strict=section.strict).find_fault()
    return section.model_copy(update={"policy": policy, "value": value}), [f"threshold: {fault}"] if fault else []


def _resolve_pixels(
    document: Mapping[str, Any], params: Mapping[str, Any] | None
) -> tuple[PixelThresholdSection | None, list[str]]:
    """The section with the default rate of max_fpr, and what is wrong; a null policy stays: validation's masks decide on it.

    Args:
        document: the job.
        params: of the method, all of them; None if they are invalid.
    """
    section, spec = _valid_section(document, "pixel_threshold", PixelThresholdSection), _known_spec(document)
    if section is None or spec is None:
        return None, []
    method, can_say = str(document["method"]), params is not None or spec.map_param is None
    if section.policy is not None and can_say and not methods.gives_map(method, params or {}):
        reason = f"{method} has no anomaly maps{methods.map_param_hint(method)}"
        return None, [f"pixel_threshold: got policy {section.policy}, but {reason}; leave pixel_threshold out"]
    default = DEFAULT_PIXEL_MAX_FPR if section.policy == "max_fpr" else None
    return section.model_copy(update={"value": default if section.value is None else section.value}), []


def _resolve_params(document: Mapping[str, Any]) -> tuple[dict[str, Any] | None, list[str]]:
    """The method's parameters, and their problems: defaults, then the preset, then what the user set."""
    name, params, preset = document.get("method"), document.get("params") or {}, document.get("preset")
    if not isinstance(name, str) or not isinstance(params, dict):
        return None, []  # reported by the validation of the whole job
    try:
        config = methods.config_class(name)
        base = _preset(name, preset)
    except JobError as error:
        return None, [str(error)]
    try:
        return config.model_validate({**base, **params}).model_dump(mode="json"), []
    except ValidationError as error:
        return None, explain(error, config, "params")


def _preset(method: str, preset: object) -> dict[str, object]:
    if preset is None:
        return {}
    presets = methods.presets(method)
    if not isinstance(preset, str) or preset not in presets:
        raise JobError(f"preset: unknown preset {shown(preset)} of {method}; {choices(str(preset), presets)}")
    return dict(presets[preset])


def explain(error: ValidationError, model: type[BaseModel], prefix: str = "") -> list[str]:
    """Pydantic's errors, one line each: the key, what was got, what is allowed."""
    lines = []
    listed: set[tuple[str, ...]] = set()  # sections whose keys have been listed
    for item in error.errors():
        path = [key for key in item["loc"] if isinstance(key, str)]
        # A union reports one error per member, with the member's name last; only the key means something to the user.
        if item["type"] != "extra_forbidden":
            path = _known_keys(path, model)
        key = shorten(".".join([prefix, *path] if prefix else path))
        if item["type"] == "extra_forbidden":
            section = tuple(path[:-1])
            known = _fields(model, path[:-1])
            lines.append(f"{key}: unknown key" + _suggestion(path[-1], known, with_list=section not in listed))
            listed.add(section)
        elif item["type"] == "value_error" and isinstance(item["input"], dict):
            # Of a whole section: the text names the key; the input would be that section with all its defaults.
            lines.append(f"{key}{': ' if path else '.'}{item['ctx']['error']}")
        elif item["type"] == "missing":
            lines.append(f"{key}: missing; {_describe(model, path)}")
        else:
            lines.append(f"{key}: got {shown(item['input'])}; {_in_words(item['msg'])}")
    return list(dict.fromkeys(lines))


def _suggestion(name: str, known: Sequence[str], *, with_list: bool) -> str:
    """The end of a message about an unknown key; the known ones are listed only once for each section."""
    text = choices(name, known)
    if text.startswith("available: ") and not with_list:
        text = text.partition("; ")[2]
    return f"; {text}" if text else ""


def _in_words(message: str) -> str:
    """Pydantic's 'Input should be …' as 'must be …'; anything else with a small letter."""
    message = message.replace("Input should be", "must be").replace("should have", "must have")
    message = re.sub(r" or instance of \w+", "", message)
    for pydantic, plain in _PLAIN_WORDS.items():
        message = message.replace(pydantic, plain)
    message = message.removeprefix("Value error, ")  # of our own validators
    return message[0].lower() + message[1:]


def _section(model: type[BaseModel], key: str) -> type[BaseModel] | None:
    """The section that a key holds, also one that may be null, or a list of them; None for other keys."""
    annotations: list[Any] = [model.model_fields[key].annotation]
    for annotation in annotations:
        annotations.extend(get_args(annotation))
    kinds = [kind for kind in annotations if isinstance(kind, type) and issubclass(kind, BaseModel)]
    return kinds[0] if kinds else None


def _fields(model: type[BaseModel], path: list[str]) -> list[str]:
    for key in path:
        section = _section(model, key)
        if section is None:
            return []
        model = section
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
        model = _section(model, key) or model
    return model.model_fields[path[-1]].description or "this key is required"
