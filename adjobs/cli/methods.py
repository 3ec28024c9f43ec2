"""``adjobs methods``."""

from __future__ import annotations

from typing import Any

import click

from adjobs.cli.output import verb
from adjobs.methods.contract import Spec


@click.command()
@click.option("--params", "name", metavar="METHOD", help="List one method's parameters with their defaults instead.")
@verb
def command(name: str | None) -> tuple[dict[str, Any], str]:
    """List the methods, the labels they learn from, and their papers."""
    from adjobs import methods

    if name is not None:
        return _params(name)
    found = {each: methods.spec(each) for each in methods.names()}
    keys = ("title", "paper", "supervisions", "gives_map", "map_param", "simulates")
    result = {each: {key: getattr(s, key) for key in keys} for each, s in found.items()}
    lines = [
        [each, f"  {s.title}", f"  labels: {', '.join(s.supervisions)}; {_output(s)}", f"  {s.paper}"]
        for each, s in found.items()
    ]
    text = "\n".join(line for block in lines for line in block)
    return {"methods": result}, text


def _params(name: str) -> tuple[dict[str, Any], str]:
    from adjobs import methods

    fields = methods.config_class(name).model_fields
    result = {key: {"default": field.default, "description": field.description} for key, field in fields.items()}
    text = "\n".join(f"{key} = {field.default}\n  {field.description}" for key, field in fields.items())
    return {"method": name, "params": result}, text


def _output(spec: Spec) -> str:
    if not spec.gives_map:
        return "image scores only"
    maps = "heat maps" if spec.map_param is None else f"heat maps with params.{spec.map_param}"
    return f"{maps}; trains on simulated anomalies" if spec.simulates else maps
