"""``adjobs schema``: the JSON schemas of the files that people write."""

from __future__ import annotations

import json
from pathlib import Path

import click

from adjobs.cli.output import VerbResult, verb

_NAMES = {"job": "job", "compare": "comparison", "space": "search space", "retrain": "retraining"}


@click.command()
@click.argument("kind", type=click.Choice(list(_NAMES)))
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the schema to this file instead of standard output."
)
@verb
def command(kind: str, out: Path | None) -> VerbResult:
    """Print the JSON schema of a job or another file.

    With it, an editor completes and checks the keys, the method's parameters included. For editors with the YAML language
    server, start the file with the line

    \b
    # yaml-language-server: $schema=job.schema.json
    """  # noqa: D301 (click looks for the control character, not for a backslash)
    schema = _build(kind)
    if out is None:
        return schema, json.dumps(schema, indent=2, ensure_ascii=False)
    from adjobs.storage.base import atomic_write, disk_errors
    from adjobs.storage.outputs import output_file

    target = output_file(out, "a schema of adjobs", _is_schema)
    with disk_errors("write", out), atomic_write(target) as temporary:
        temporary.write_text(json.dumps(schema, indent=2, ensure_ascii=False) + "\n")
    return {"out": str(out)}, f"schema of the {_NAMES[kind]} file in {out}"


def _is_schema(path: Path) -> bool:
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and str(document.get("title")).startswith("adjobs ") and "$schema" in document


def _build(kind: str) -> dict[str, object]:
    from adjobs.config import schema

    if kind == "retrain":
        from adjobs.retraining.config import OWN_DATA_KEYS, RetrainConfig

        return schema.retraining_schema(RetrainConfig, OWN_DATA_KEYS)
    if kind in ("job", "compare"):
        from adjobs.comparison.config import ComparisonConfig

        return schema.job_schema(ComparisonConfig) if kind == "job" else schema.comparison_schema(ComparisonConfig)
    from adjobs.tuning import parameter

    return schema.space_schema(parameter.JOB_KEYS, parameter.DISTRIBUTIONS)
