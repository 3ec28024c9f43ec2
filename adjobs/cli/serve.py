"""``adjobs serve``."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import click

from adjobs.cli.output import VerbResult, verb
from adjobs.inference.engine_contract import ENGINES

SWITCH_SECONDS = 0.0005
MIB = 2**20


@click.command()
@click.argument("model", metavar="MODEL_OR_ALIAS")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address on which it answers.")
@click.option("--port", type=click.IntRange(1, 65535), default=18300, show_default=True, help="Port on which it answers.")
@click.option(
    "--api-key-file",
    type=click.Path(path_type=Path),
    help="File of mode 0600 with a key in each line; requests must send one of them.",
)
@click.option("--without-key", is_flag=True, help="Answer other machines without a key, as a proxy or a network decides.")
@click.option("--tls-cert", type=click.Path(exists=True, dir_okay=False), help="Certificate; without it, plain HTTP.")
@click.option("--tls-key", type=click.Path(exists=True, dir_okay=False), help="Private key of the certificate.")
@click.option("--name", help="Name of the model in answers.  [default: that of the registered model, or the run's id]")
@click.option("--device", default="auto", show_default=True, help="Where it computes: auto, cpu, cuda:0 …")
@click.option("--engine", type=click.Choice(ENGINES), default="auto", show_default=True, help="What computes.")
@click.option(
    "--follow",
    type=click.FloatRange(0.1, 3600),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How often the registry is asked what an alias stands for.",
)
@click.option("--max-body", type=click.IntRange(1, 2048), default=64, show_default=True, metavar="MIB", help="Of a request.")
@click.option("--max-images", type=click.IntRange(1, 1024), default=16, show_default=True, help="Of a request.")
@click.option(
    "--max-pixels", type=click.FloatRange(0.001, 178), default=50, show_default=True, metavar="MILLIONS", help="Of an image."
)
@click.option(
    "--max-queue", type=click.IntRange(1, 10_000), default=256, show_default=True, help="Images that are in work or wait."
)
@click.option("--max-batch", type=click.IntRange(1, 256), default=16, show_default=True, help="Images computed at once.")
@click.option(
    "--timeout",
    type=click.FloatRange(0.1, 600),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="From a request's head to its answer.",
)
@click.option(
    "--backend",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="This process, or replicas on a Ray cluster.",
)
@click.option("--replicas", type=click.IntRange(1, 1000), default=1, show_default=True, help="With --backend ray.")
@click.option("--cpus-per-replica", type=click.FloatRange(0), default=1.0, show_default=True, help="With --backend ray.")
@click.option("--gpus-per-replica", type=click.FloatRange(0), default=0.0, show_default=True, help="With --backend ray.")
@verb
def command(model: str, **options: Any) -> VerbResult:
    """Answer over HTTP: images in, decisions out.

    It runs until it is stopped. MODEL_OR_ALIAS is a run id, models:/name/version, models:/m-…, a folder that holds a detector, or
    models:/name@champion, which is followed: when the alias is moved, the new version is loaded and put in force without
    refusing a request. A page for a browser is at /, the description of the interface at /docs.
    """
    from adjobs.serving.limits import Limits
    from adjobs.serving.server import check_door
    from adjobs.web.door import Door
    from adjobs.web.key_file import read_digests

    key_file = options["api_key_file"]
    digests = () if key_file is None else read_digests(key_file, "--api-key-file")
    door = Door(options["host"], options["port"], options["tls_cert"], options["tls_key"])
    check_door(door, digests, without_key=options["without_key"])
    limits = Limits(
        max_body=options["max_body"] * MIB,
        max_images=options["max_images"],
        max_pixels=int(options["max_pixels"] * 1_000_000),
        max_queue=options["max_queue"],
        max_batch=options["max_batch"],
        timeout=options["timeout"],
    )
    run = _serve_by_ray if options["backend"] == "ray" else _serve_locally
    run(model, options, limits, door, digests)
    return {"stopped": True}, "stopped"


def _serve_locally(model: str, options: dict[str, Any], limits: Any, door: Any, digests: tuple[str, ...]) -> None:
    from adjobs.serving.loading import load_to_serve
    from adjobs.serving.models import ModelSource
    from adjobs.serving.server import serve
    from adjobs.serving.service import PredictionService

    # What OpenVINO does not compute is loaded by Python code that seldom waits. Each request needs Python's lock many times, and
    # by default waits up to 5 ms for it each time.
    sys.setswitchinterval(SWITCH_SECONDS)

    load = partial(load_to_serve, device=options["device"], engine=options["engine"])
    source = ModelSource(model, load, options["name"], limits.max_batch)
    serve(PredictionService(source, limits, options["follow"]), door, digests)


def _serve_by_ray(model: str, options: dict[str, Any], limits: Any, door: Any, digests: tuple[str, ...]) -> None:
    from adjobs.config.environment import load_settings
    from adjobs.serving.ray_app import Deployment, ReplicaConfig, serve

    replica = ReplicaConfig(model, options["name"], options["device"], options["engine"], options["follow"], limits, digests)
    deployment = Deployment(options["replicas"], options["cpus_per_replica"], options["gpus_per_replica"])
    serve(load_settings(), replica, deployment, door)
