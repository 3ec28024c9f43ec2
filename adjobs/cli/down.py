"""``adjobs down``: stop the embedded stack."""

from __future__ import annotations

import os

import click

from adjobs.cli.output import VerbResult, verb


@click.command()
@verb
def command() -> VerbResult:
    """Stop the embedded stack and all jobs on it. Data and credentials are kept."""
    from adjobs.config.settings import home_folder
    from adjobs.stack import lifecycle

    result = lifecycle.down(home_folder(os.environ))
    return result, "stopped" if result.stopped else "nothing was running"
