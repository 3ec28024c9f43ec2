"""``adjobs dispatch``."""

from __future__ import annotations

import re
from typing import Any

import click

from adjobs.cli.output import verb


def _resources(context: click.Context, parameter: click.Parameter, value: str | None) -> dict[str, float] | None:
    """``cpus=16,gpus=4`` as Ray names it."""
    if value is None:
        return None
    match = re.fullmatch(r"cpus=(\d+)(?:,gpus=(\d+))?", value)
    if match is None:
        raise click.UsageError(f"--largest-node: got {value[:100]!r}; must be like cpus=16 or cpus=16,gpus=4")
    return {"CPU": float(match[1]), "GPU": float(match[2] or 0)}


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address on which the queue answers.")
@click.option("--port", type=click.IntRange(1, 65535), default=18211, show_default=True, help="Port on which it answers.")
@click.option("--slots", type=click.IntRange(1, 10_000), default=1, show_default=True, help="Jobs that run at once.")
@click.option("--max-per-user", type=click.IntRange(min=1), help="Jobs of one user that run at once.  [default: all slots]")
@click.option(
    "--largest-node",
    metavar="cpus=N,gpus=N",
    callback=_resources,
    help="What the largest node of an autoscaling cluster has; jobs that fit on such nodes are accepted before there are any.",
)
@click.option("--max-nodes", type=click.IntRange(min=1), help="Nodes to which it may grow, the head's included.")
@click.option("--tls-cert", type=click.Path(exists=True, dir_okay=False), help="Certificate; without it, plain HTTP.")
@click.option("--tls-key", type=click.Path(exists=True, dir_okay=False), help="Private key of the certificate.")
@verb
def command(**options: Any) -> tuple[dict[str, Any], str]:
    """Start queued jobs on Ray and answer the queue's clients.

    It runs until it is stopped. Running jobs continue without it, and it takes them up again when it is restarted. 'adjobs up'
    starts one.
    """
    from adjobs.config.environment import load_settings
    from adjobs.queue.dispatcher import Limits
    from adjobs.queue.service import serve
    from adjobs.training.resources import Growth
    from adjobs.web.door import Door

    largest, max_nodes = options["largest_node"], options["max_nodes"]
    if (largest is None) != (max_nodes is None):
        raise click.UsageError("--largest-node and --max-nodes belong together; give both or none")
    door = Door(options["host"], options["port"], options["tls_cert"], options["tls_key"])
    limits = Limits(options["slots"], options["max_per_user"])
    serve(load_settings(), door, limits, None if largest is None else Growth(largest, max_nodes))
    return {"stopped": True}, "stopped"
