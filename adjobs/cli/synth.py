"""``adjobs synth``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adjobs.cli.output import verb
from adjobs.errors import JobError

if TYPE_CHECKING:
    from torch import nn

    from adjobs.config.job import JobConfig
    from adjobs.data.dataset import Sample
    from adjobs.types import Batch


@click.command()
@click.argument("method")
@click.option("--data", "uri", required=True, help="Folder, s3:// URI, or the word elpv.")
@click.option(
    "--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change one key of the job, such as params.rectangles=2."
)
@click.option(
    "--model",
    metavar="RUN_OR_URI",
    help="A trained model of the method in place of a new one, with its own parameters.",
)
@click.option("--count", type=click.IntRange(1, 512), default=16, show_default=True, help="How many pictures.")
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of the choice of pictures and the anomalies."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default="synth",
    show_default=True,
    help="Folder for the contact sheet; an older one is replaced.",
)
@verb
def command(
    method: str, uri: str, changes: tuple[str, ...], model: str | None, count: int, seed: int, out: Path
) -> tuple[dict[str, Any], str]:
    """Look at the anomalies that a method simulates on good pictures, before it is trained with them.

    The pictures are drawn from all good ones of the data set, whatever part they would be in. With a trained model of a method
    that learns by filling in what is masked, masked and filled pictures stand below.

    \b
    adjobs synth cdo --data elpv --set params.rectangles=2 --out look
    adjobs synth slsg --data elpv --model RUN --out look
    """  # noqa: D301 (click looks for the control character, not for a backslash)
    from adjobs import methods
    from adjobs.config import resolve

    document = {"method": method, "data": {"uri": uri}}
    prepared = resolve.resolve(resolve.override(document, changes), source="job")
    method = prepared.method
    if not methods.spec(method).simulates:
        able = [name for name in methods.names() if methods.spec(name).simulates]
        raise JobError(f"method '{method}': simulates no anomalies; those that do: {', '.join(able)}")

    from adjobs.synthesis.sheet import draw_sheet, save_sheet

    built, size = _trained(method, model, changes) if model else _new(prepared, seed)
    samples = _choose(prepared, count, seed)
    batch = _load(samples, size, seed)
    simulated = built.simulate(batch)  # type: ignore[operator]
    filled = built.fill(batch.images, batch.generator) if model and hasattr(built, "fill") else ()  # type: ignore[operator]
    out.mkdir(parents=True, exist_ok=True)
    sheet = out / f"{method}.png"
    save_sheet(draw_sheet(batch.images, simulated, filled), sheet)
    shares = simulated.masks.float().mean((1, 2, 3))
    touched = int((shares > 0).sum())
    result = {
        "out": str(sheet),
        "images": [sample.id for sample in samples],
        "changed": touched,
        "mean_share": float(shares.mean()),
    }
    return result, f"{sheet}: {touched} of {len(samples)} pictures changed, on average {result['mean_share']:.1%} of a picture"


def _new(prepared: JobConfig, seed: int) -> tuple[nn.Module, int]:
    """The method before any training, and the side of its pictures."""
    from adjobs import methods

    config, size = prepared.method_config(), prepared.data.image_size
    if "weights" in type(config).model_fields:
        config = config.model_copy(update={"weights": "none"})  # no network looks at the pictures
    return methods.load(prepared.method).build(config, image_size=size, seed=seed), size


def _trained(method: str, model: str, changes: tuple[str, ...]) -> tuple[nn.Module, int]:
    """A logged model, and the side of its pictures."""
    from tempfile import TemporaryDirectory

    from adjobs.config.environment import load_settings
    from adjobs.inference.detector import Detector
    from adjobs.tracking.logged_model import download

    if changes:
        raise JobError("--set: a trained model has parameters of its own; leave out --set or --model")
    with TemporaryDirectory(prefix="adjobs-") as folder:
        found = Detector.load(download(load_settings().tracking_uri, model, Path(folder)), "cpu")
    if found.manifest.method != method:
        raise JobError(f"--model '{model}': is a model of {found.manifest.method}, not of {method}; give one of that method")
    return found.method, found.manifest.image_size


def _choose(prepared: JobConfig, count: int, seed: int) -> list[Sample]:
    """Good pictures at random, in the order of their ids."""
    import numpy as np

    from adjobs.config.environment import load_settings
    from adjobs.data.open import open_dataset

    index = open_dataset(prepared.data.uri, prepared.data.format, cache=load_settings().cache)
    good = [sample for sample in index.samples if sample.label == "normal"]
    chosen = np.random.default_rng(seed).choice(len(good), min(count, len(good)), replace=False)
    return [good[i] for i in sorted(chosen)]


def _load(samples: list[Sample], size: int, seed: int) -> Batch:
    """All of them marked to be simulated on."""
    import numpy as np
    import torch

    from adjobs.data.batches import to_float
    from adjobs.data.images import load_rgb
    from adjobs.types import Batch

    device = torch.device("cpu")
    images = to_float(np.stack([load_rgb(sample.image, size) for sample in samples]), device)
    nothing = torch.zeros(len(images), 1, size, size, dtype=torch.bool)
    every = torch.ones(len(images), dtype=torch.bool)
    generator = torch.Generator().manual_seed(seed)
    labels, rows = torch.zeros(len(images), dtype=torch.long), torch.arange(len(images))
    return Batch(images, labels, nothing, nothing, every, rows, generator)
