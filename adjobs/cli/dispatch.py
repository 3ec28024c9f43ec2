"""``adjobs dispatch``."""

from __future__ import annotations

from typing import Any

import click

from adjobs.cli.output import verb


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address on which the queue answers.")
@click.option("--port", type=click.IntRange(1, 65535), default=18211, show_default=True, help="Port on which it answers.")
@click.option("--slots", type=click.IntRange(1, 10_000), default=1, show_default=True, help="Jobs that run at once.")
@click.option("--max-per-user", type=click.IntRange(min=1), help="Jobs of one user that run at once.  [default: all slots]")
@click.option("--tls-cert", type=click.Path(exists=True, dir_okay=False), help="Certificate; without it, plain HTTP.")
@click.option("--tls-key", type=click.Path(exists=True, dir_okay=False), help="Private key of the certificate.")
@verb
def command(**options: Any) -> tuple[dict[str, Any], str]:
    """Start queued jobs on Ray and answer the queue's clients.

    It runs until it is stopped. Running jobs continue without it, and it takes them up again when it is restarted. 'adjobs up'
    starts one.
    """
    from adjobs.config.environment import load_settings
    from adjobs.queue.service import serve

    serve(load_settings(), **options)
    return {"stopped": True}, "stopped"
