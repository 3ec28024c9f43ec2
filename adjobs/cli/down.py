"""``adjobs down``: stop the embedded stack."""

from __future__ import annotations

from typing import Any

import click

from adjobs.cli.output import verb


@click.command()
@verb
def command() -> tuple[dict[str, Any], str]:
    """Stop the embedded stack, with all jobs on it. Data and credentials stay."""
    from adjobs.stack import lifecycle

    result = lifecycle.down(progress=lambda text: click.echo(text, err=True))
    return result, "stopped" if result["stopped"] else "nothing was running"
