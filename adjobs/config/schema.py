"""JSON schemas of the files that people write, for editors that complete and check YAML.

They are made from the pydantic models, so that they never differ from what a job accepts. Draft 7 is what YAML language servers
support best: there, keys next to a ``$ref`` are ignored, and shared schemas are in ``definitions``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from adjobs import methods
from adjobs.config.job import JobConfig

Schema = dict[str, Any]

_DRAFT = "http://json-schema.org/draft-07/schema#"


def job_schema(comparison: type[BaseModel] | None = None) -> Schema:
    """The schema of a job file.

    No key is required but ``method``, since ``--data`` and ``--set`` may supply the others.

    Args:
        comparison: model of a comparison, which has a section ``compare`` in place of a method; None to refuse that section.
    """
    schema = _job_model_schema(JobConfig)
    definitions = schema["definitions"]
    schema["properties"]["method"] |= {"enum": methods.names()}
    schema["required"] = ["method"]
    for name in methods.names():
        definitions[name] = _params_schema(name)
    schema["allOf"] = [_if_method(name, _job_of_method(name)) for name in methods.names()]
    if comparison is not None:
        _allow_comparison(schema, comparison_schema(comparison))
    return {"$schema": _DRAFT, "title": "adjobs job", **schema}


def comparison_schema(model: type[BaseModel]) -> Schema:
    """The schema of the file of a comparison, given its model. As in a job file, ``data`` may be left out."""
    schema = _job_model_schema(model)
    definitions = schema["definitions"]
    candidate = definitions["CandidateSection"]
    candidate["properties"]["method"] |= {"enum": methods.names()}
    candidate["allOf"] = [_if_method(name, _job_of_method(name)) for name in methods.names()]
    for name in methods.names():
        definitions[name] = _params_schema(name)
    candidates: Schema = {"enum": methods.names()}
    candidates = {"anyOf": [candidates, {"$ref": "#/definitions/CandidateSection"}]}
    (of_list,) = [item for item in definitions["CompareSection"]["properties"]["methods"]["anyOf"] if item["type"] == "array"]
    of_list |= {"items": candidates, "minItems": 1}
    schema["properties"]["train"] = {"allOf": [schema["properties"]["train"], _without_values("max_seconds")]}
    schema.pop("required", None)
    return {"$schema": _DRAFT, "title": "adjobs comparison", **schema}


def retraining_schema(model: type[BaseModel], own_data_keys: Iterable[str]) -> Schema:
    """The schema of the file of a retraining.

    Args:
        model: of the file.
        own_data_keys: keys of the job's section ``data`` that the retraining's data set decides.
    """
    schema, job = _model_schema(model), job_schema()
    schema["definitions"] |= job.pop("definitions")
    del job["$schema"], job["title"]
    limits = {"data": _without_values(*own_data_keys), "track": {"type": "object", **_without_values("model")}}
    schema["properties"]["job"] = {
        "description": schema["properties"]["job"]["description"],
        "if": {"type": "object"},
        "then": {"allOf": [job, {"properties": limits}]},
        "else": {"type": "string"},
    }
    return {"$schema": _DRAFT, "title": "adjobs retraining", **schema}


def space_schema(job_keys: Iterable[str], distributions: Mapping[str, str]) -> Schema:
    """The schema of a space file.

    Args:
        job_keys: keys of the job, such as ``data.image_size``, that may vary besides those of ``params``.
        distributions: description of the values of each distribution, by its name in the file.
    """
    job = job_schema()
    keys = {key: _find(job, key) for key in job_keys}
    definitions = _distribution_definitions(distributions)
    definitions |= {name: _parameters_schema(name, keys, distributions) for name in methods.names()}
    return {
        "$schema": _DRAFT,
        "title": "adjobs search space",
        "type": "object",
        "additionalProperties": False,
        "required": ["method", "parameters"],
        "properties": {
            "method": {"description": "the method of the job that is searched", "enum": methods.names()},
            "parameters": {
                "description": "keys of the job that vary, and their distributions",
                "type": "object",
                "minProperties": 1,
            },
        },
        "allOf": [
            _if_method(name, {"properties": {"parameters": {"$ref": f"#/definitions/{name}"}}}) for name in methods.names()
        ],
        "definitions": definitions,
    }


def _allow_comparison(job: Schema, comparison: Schema) -> None:
    """Let a job file have the section ``compare`` in place of what belongs to one method."""
    job["definitions"] |= {name: item for name, item in comparison["definitions"].items() if name not in job["definitions"]}
    job["properties"]["compare"] = comparison["properties"]["compare"]
    of_one_method = {name: False for name in JobConfig.model_fields if name not in comparison["properties"]}
    of_comparison = {"properties": {**of_one_method, "train": comparison["properties"]["train"]}}
    required = {"required": job.pop("required")}
    job |= {"if": {"required": ["compare"]}, "then": of_comparison, "else": required}


def _without_values(*keys: str) -> Schema:
    """A section in which these keys have no value."""
    return {"properties": {key: {"type": "null"} for key in keys}}


def _job_model_schema(model: type[BaseModel]) -> Schema:
    """The schema of a model with the sections of a job, with the names of formats and protocols; no key of data is required."""
    schema = _model_schema(model)
    data = schema["definitions"]["DataSection"]
    data["properties"]["format"] |= {"enum": ["auto", *_format_names()]}
    data["properties"]["protocol"] |= {"enum": _protocol_names()}
    del data["required"]
    return schema


def _model_schema(model: Any) -> Schema:
    schema: Schema = model.model_json_schema(ref_template="#/definitions/{model}")
    definitions = schema.pop("$defs", {})
    return {"definitions": _without_titles(definitions), **_without_titles(schema)}


def _without_titles(schema: Any) -> Any:
    """Without the titles that pydantic makes of names; a property named ``title`` has a schema as its value and stays."""
    if isinstance(schema, dict):
        return {key: _without_titles(value) for key, value in schema.items() if key != "title" or not isinstance(value, str)}
    return [_without_titles(item) for item in schema] if isinstance(schema, list) else schema


def _params_schema(method: str) -> Schema:
    """The schema of ``params`` of a method. Its models have no models inside."""
    schema = _model_schema(methods.config_class(method))
    del schema["definitions"]
    return {**schema, "description": f"parameters of {methods.spec(method).title}"}


def _job_of_method(method: str) -> Schema:
    presets = sorted(methods.presets(method))
    return {"properties": {"params": {"$ref": f"#/definitions/{method}"}, "preset": {"enum": [*presets, None]}}}


def _if_method(name: str, then: Schema) -> Schema:
    return {"if": {"required": ["method"], "properties": {"method": {"const": name}}}, "then": then}


def _parameters_schema(method: str, job_keys: Mapping[str, Schema], distributions: Mapping[str, str]) -> Schema:
    """The schema of what varies in jobs of a method."""
    params = {f"params.{name}": schema for name, schema in _params_schema(method)["properties"].items()}
    properties = {key: _distribution_schema(schema, distributions) for key, schema in {**params, **job_keys}.items()}
    return {"type": "object", "minProperties": 1, "additionalProperties": False, "properties": properties}


def _distribution_schema(value: Schema, distributions: Mapping[str, str]) -> Schema:
    """The schema of how one key varies, given that of its values."""
    properties: Schema = {name: {"$ref": f"#/definitions/{name}"} for name in [*distributions, "when"]}
    if "choice" in distributions:
        properties["choice"] = {"description": distributions["choice"], "type": "array", "items": value, "minItems": 1}
    return {
        "description": value.get("description", ""),
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "oneOf": [{"required": [name]} for name in distributions],
    }


def _distribution_definitions(distributions: Mapping[str, str]) -> Schema:
    """What is the same for every key: the ranges, and the condition."""
    numbers: Schema = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
    ranges = {
        "uniform": numbers,
        "loguniform": {**numbers, "items": {"type": "number", "exclusiveMinimum": 0}},
        "quniform": {**numbers, "minItems": 3, "maxItems": 3},
        "randint": {**numbers, "items": {"type": "integer"}},
    }
    scalar: Schema = {"type": ["string", "number", "boolean", "null"]}
    condition = {
        "description": "values of other keys with which this key varies",
        "type": "object",
        "additionalProperties": {"anyOf": [scalar, {"type": "array", "items": scalar}]},
    }
    return {name: {**ranges[name], "description": text} for name, text in distributions.items() if name in ranges} | {
        "when": condition
    }


def _find(job: Schema, key: str) -> Schema:
    """The schema of ``section.name`` in that of a job."""
    section, name = key.split(".")
    definition = job["properties"][section]["$ref"].rpartition("/")[2]
    schema: Schema = job["definitions"][definition]["properties"][name]
    return schema


def _format_names() -> list[str]:
    from adjobs.data.formats import load_formats

    return sorted(load_formats())


def _protocol_names() -> list[str]:
    from adjobs.data.splits.protocols import PROTOCOLS

    return sorted(PROTOCOLS)
