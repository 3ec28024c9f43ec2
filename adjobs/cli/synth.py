"""``adjobs synth``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adjobs.cli.output import verb
from adjobs.errors import JobError

if TYPE_CHECKING:
    from adjobs.config.job import JobConfig
    from adjobs.data.dataset import Dataset, Sample
    from adjobs.data.image_reading import ImageReading
    from adjobs.inference.torch_detector import TorchDetector
    from adjobs.methods.method import Method
    from adjobs.types import Batch


@click.command()
@click.argument("method")
@click.option("--data", "uri", required=True, help="Data set: a folder, an s3:// URI, or elpv.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change one key of the job, such as params.rectangles=2. Repeatable.",
)
@click.option(
    "--model",
    metavar="RUN_OR_URI",
    help="Use a trained model of this method, with the parameters it was trained with, instead of a new one.",
)
@click.option("--count", type=click.IntRange(1, 512), default=16, show_default=True, help="Number of images.")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Seed of the choice of images and of the anomalies.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default="synth-sheets",
    show_default=True,
    help="Folder for the contact sheet METHOD.png, which is overwritten if it exists.",
)
@verb
def command(
    method: str, uri: str, overrides: tuple[str, ...], model: str | None, count: int, seed: int, out: Path
) -> tuple[dict[str, Any], str]:
    """Show the anomalies that a method simulates on normal images.

    For a check before training. Writes a contact sheet of normal images, the same images with a simulated anomaly, and the masks.
    Images are drawn at random from all normal images of the data set, regardless of splits. With a trained model of a method that
    learns by inpainting, the sheet also shows masked and inpainted images.

    \b
    adjobs synth cdo --data elpv --set params.rectangles=2
    adjobs synth slsg --data elpv --model RUN --out synth-sheets
    """  # noqa: D301 (click looks for the control character, not for a backslash)
    from adjobs import methods
    from adjobs.config import resolve
    from adjobs.storage.outputs import OutputFolder, refuse_images_in

    document = {"method": method, "data": {"uri": uri}}
    job = resolve.resolve(resolve.override(document, overrides), source="job")
    if not methods.spec(job.method).simulates:
        simulating = [name for name in methods.names() if methods.spec(name).simulates]
        raise JobError(f"method '{job.method}' simulates no anomalies; available: {', '.join(simulating)}")

    folder, name = OutputFolder(out, "synth"), f"{job.method}.png"
    folder.check([name])

    from adjobs.synthesis.contact_sheet import draw_contact_sheet, save_contact_sheet

    dataset = _open_dataset(job)
    refuse_images_in(dataset.root, out)
    if model:
        detector = _load_trained(job.method, model, overrides)
        instance, image_size, reading = detector.method, detector.manifest.image_size, detector.manifest.image_reading
    else:
        instance, image_size, reading = _build_new(job, seed), job.data.image_size, _find_reading(job, dataset)
    samples = _draw_samples(dataset, count, seed)
    batch = _load_batch(samples, image_size, seed, reading)
    simulated = instance.simulate(batch)
    inpainted = instance.fill(batch.images, batch.generator) if model else ()
    with folder.write(name) as temporary:
        save_contact_sheet(draw_contact_sheet(batch.images, simulated, inpainted), temporary)
    path = folder.path / name
    fractions = simulated.masks.float().mean((1, 2, 3))
    changed, mean_fraction = int((fractions > 0).sum()), float(fractions.mean())
    result = {
        "out": str(path),
        "images": [sample.id for sample in samples],
        "changed": changed,
        "mean_fraction": mean_fraction,
    }
    text = f"{path}: {changed} of {len(samples)} images changed; anomalies cover {mean_fraction:.1%} of an image on average"
    return result, text


def _build_new(job: JobConfig, seed: int) -> Method:
    """The method before training."""
    from adjobs import methods

    config = job.method_config()
    config = config.model_copy(update=methods.without_pretrained_weights(job.method))  # simulation uses no network
    return methods.load(job.method).build(config, image_size=job.data.image_size, seed=seed)


def _load_trained(method: str, model: str, overrides: tuple[str, ...]) -> TorchDetector:
    from adjobs.api import load_trained

    if overrides:
        raise JobError("--set has no effect on a trained model, which keeps its parameters; leave out --set or --model")
    detector = load_trained(model, device="cpu")
    trained_method = detector.manifest.method
    if trained_method != method:
        raise JobError(f"--model '{model}' is a model of {trained_method}, not of {method}; give a model of {method}")
    return detector


def _open_dataset(job: JobConfig) -> Dataset:
    from adjobs.config.environment import load_settings
    from adjobs.data.open import open_dataset

    return open_dataset(job.data.uri, job.data.format, cache=load_settings().cache, options=job.data.read_options)


def _find_reading(job: JobConfig, dataset: Dataset) -> ImageReading:
    from adjobs.data.images import find_reading

    return find_reading([sample.image for sample in dataset.samples], job.data.pixel_scale)


def _draw_samples(dataset: Dataset, count: int, seed: int) -> list[Sample]:
    """Up to ``count`` normal images at random, ordered by id."""
    import numpy as np

    normal = [sample for sample in dataset.samples if sample.label == "normal"]
    indices = np.random.default_rng(seed).choice(len(normal), min(count, len(normal)), replace=False)
    return [normal[i] for i in sorted(indices)]


def _load_batch(samples: list[Sample], image_size: int, seed: int, reading: ImageReading) -> Batch:
    """One batch of all images, with ``simulate`` set for each."""
    import numpy as np
    import torch

    from adjobs.data.images import load_rgb
    from adjobs.data.packing import to_float
    from adjobs.types import Batch

    images = to_float(np.stack([load_rgb(sample.image, image_size, reading) for sample in samples]), torch.device("cpu"))
    no_defects = torch.zeros(len(images), 1, image_size, image_size, dtype=torch.bool)
    return Batch(
        images=images,
        labels=torch.zeros(len(images), dtype=torch.long),
        masks=no_defects,
        unknown=no_defects,
        simulate=torch.ones(len(images), dtype=torch.bool),
        indices=torch.arange(len(images)),
        generator=torch.Generator().manual_seed(seed),
        simulated_rows=slice(0, len(images)),
    )
