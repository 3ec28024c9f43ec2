"""``adjobs methods``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from adjobs.cli.output import verb

if TYPE_CHECKING:
    from adjobs.methods.contract import Spec

SPEC_FIELDS = ("title", "paper", "supervisions", "gives_map", "map_param", "simulates")


@click.command()
@click.option("--params", "name", metavar="METHOD", help="List the parameters of this method, with their defaults, instead.")
@verb
def command(name: str | None) -> tuple[dict[str, Any], str]:
    """List the methods, the labels they learn from, and their papers."""
    from adjobs import methods

    if name is not None:
        return _params(name)
    specs = {method: methods.spec(method) for method in methods.names()}
    result = {method: {field: getattr(spec, field) for field in SPEC_FIELDS} for method, spec in specs.items()}
    return {"methods": result}, "\n".join(_describe(method, spec) for method, spec in specs.items())


def _params(name: str) -> tuple[dict[str, Any], str]:
    from adjobs import methods

    fields = methods.config_class(name).model_fields
    result = {key: {"default": field.default, "description": field.description} for key, field in fields.items()}
    text = "\n".join(f"{key} = {_in_yaml(field.default)}\n  {field.description}" for key, field in fields.items())
    return {"method": name, "params": result}, text


def _in_yaml(value: object) -> str:
    """A default as it is written in a job file."""
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def _describe(name: str, spec: Spec) -> str:
    return f"{name}\n  {spec.title}\n  labels: {', '.join(spec.supervisions)}; {_output(spec)}\n  {spec.paper}"


def _output(spec: Spec) -> str:
    if not spec.gives_map:
        return "image scores only"
    maps = "anomaly maps" if spec.map_param is None else f"anomaly maps with params.{spec.map_param}"
    return f"{maps}; trains on simulated anomalies" if spec.simulates else maps
