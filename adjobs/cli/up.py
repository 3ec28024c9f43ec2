"""``adjobs up``: start the embedded stack."""

from __future__ import annotations

import os

import click

from adjobs.cli.output import VerbResult, verb


@click.command()
@click.option("--port-base", type=int, default=18200, show_default=True, help="First port of the block that the services use.")
@click.option("--cpus", type=click.IntRange(min=1), help="CPUs that Ray may give to jobs.  [default: all]")
@click.option("--slots", type=click.IntRange(1, 10_000), default=1, show_default=True, help="Queued jobs that run at once.")
@verb
def command(port_base: int, cpus: int | None, slots: int) -> VerbResult:
    """Start S3, MLflow, Ray and the queue on this machine.

    They can be reached from this machine only. Data and credentials are kept in ADJOBS_HOME (~/.adjobs) when the stack is
    stopped with 'adjobs down'.
    """
    from adjobs.cli.status import describe
    from adjobs.config.settings import home_folder
    from adjobs.stack import lifecycle

    home = home_folder(os.environ)
    state = lifecycle.up(home, port_base, cpus, slots)
    if state.port_base != port_base:
        click.echo(f"already running at port base {state.port_base}; to move it, run 'adjobs down' first", err=True)
    status = lifecycle.status(home)
    text = f"""{describe(status, home)}

adjobs uses the stack without further settings. For other programs in this shell: eval "$(adjobs status --env)"
To stop it: adjobs down"""
    return status, text
