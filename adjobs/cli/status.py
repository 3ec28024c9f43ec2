"""``adjobs status``: what of the embedded stack runs where."""

from __future__ import annotations

import shlex
from typing import Any

import click

from adjobs.cli.output import EXIT_PROBLEMS, table, verb


@click.command()
@click.option("--env", "as_environment", is_flag=True, help="Print the variables that clients need, secrets among them.")
@verb
def command(as_environment: bool) -> tuple[dict[str, Any], str, int]:
    """Say what of the stack runs where.

    The exit status is 1 unless all of it runs. To use it from other programs of a shell: eval "$(adjobs status --env)"
    """
    from adjobs.config import settings
    from adjobs.stack import lifecycle

    found = lifecycle.status()
    code = 0 if found["running"] else EXIT_PROBLEMS
    if not as_environment:
        return found, describe(found), code
    if code:
        click.echo("the stack is not running; start it with: adjobs up", err=True)
        return {}, "", code
    # Ray's own commands let RAY_ADDRESS override the address that jobs are submitted to; adjobs reads it from the stack's file.
    environment = {name: value for name, value in settings.stack_environment().items() if name != "RAY_ADDRESS"}
    return environment, "\n".join(f"export {name}={shlex.quote(value)}" for name, value in environment.items()), code


def describe(found: dict[str, Any]) -> str:
    """A table of the services."""
    if not found["services"]:
        return "not running; start it with: adjobs up"
    rows = [
        [name, "running", str(one["pid"]), one["url"], f"{one['memory'] / 2**20:.0f} MiB", _duration(one["uptime"])]
        if one["running"]
        else [name, "ended", "", one["url"], "", f"see {one['log']}"]
        for name, one in found["services"].items()
    ]
    text = table(rows, ["service", "state", "pid", "url", "memory", "up"])
    return text if found["running"] else f"{text}\n\nnot all of it runs; restart it with: adjobs up"


def _duration(seconds: float) -> str:
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    return f"{int(seconds)} s" if not minutes else f"{minutes} min" if not hours else f"{hours} h {minutes % 60} min"
