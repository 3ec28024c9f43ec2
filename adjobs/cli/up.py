"""``adjobs up``: start the embedded stack."""

from __future__ import annotations

from typing import Any

import click

from adjobs.cli.output import verb


@click.command()
@click.option("--port-base", type=int, default=18200, show_default=True, help="First port of the block that the services use.")
@click.option("--cpus", type=click.IntRange(min=1), help="CPUs that Ray may give to jobs; all by default.")
@verb
def command(port_base: int, cpus: int | None) -> tuple[dict[str, Any], str]:
    """Start S3, MLflow and Ray on this machine.

    They are reachable from this machine only. Data and credentials are kept in ADJOBS_HOME (~/.adjobs)
    and are there again after 'adjobs down' and 'adjobs up'.
    """
    from adjobs.cli.status import describe
    from adjobs.stack import lifecycle

    state = lifecycle.up(port_base, cpus, progress=lambda text: click.echo(text, err=True))
    if state["port_base"] != port_base:
        click.echo(f"it already runs at port base {state['port_base']}; to move it, run 'adjobs down' first", err=True)
    found = lifecycle.status()
    text = f"""{describe(found)}

adjobs uses it by itself. For other programs in this shell: eval "$(adjobs status --env)". Stop it with: adjobs down"""
    return found, text
