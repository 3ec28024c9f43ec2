"""What the places of a data set's images are best compared with, and the parameter that depends on it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from adjobs import methods
from adjobs.config.job import JobConfig
from adjobs.data.dataset import Dataset
from adjobs.data.image_reading import ImageReading
from adjobs.data.places import MAX_IMAGES, MIN_IMAGES, Places
from adjobs.data.splits.assignment import SplitAssignment
from adjobs.jobs.answers import answer_path, keep_answer, read_answer
from adjobs.jobs.data import PreparedData
from adjobs.parallel import in_threads
from adjobs.version import __version__
from adjobs.waits import waiting_for

LEFT_OPEN = "auto"
"""Value of a method's `PlaceParam` that leaves it to the data."""


def find_places(
    dataset: Dataset, split: SplitAssignment | None, reading: ImageReading, fingerprint: str, cache: Path
) -> Places | None:
    """Compare the places of normal images, or read from the cache what came of it.

    Args:
        dataset: the data set.
        split: whose training images are looked at; None: all may be.
        reading: how its images are read.
        fingerprint: of the data set.
        cache: folder of the cache.

    Returns:
        None with too few normal images.

    Raises:
        ImageError: an image is unreadable.
    """
    train = None if split is None else set(split.train)
    normal = [one for one in dataset.samples if one.label == "normal" and (train is None or one.id in train)]
    if len(normal) < MIN_IMAGES:
        return None
    names = hashlib.sha256(json.dumps([sample.id for sample in normal]).encode()).hexdigest()
    path = answer_path(cache, "places", [__version__, fingerprint, names, reading.key])
    kept = read_answer(path)
    if kept is not None and kept.keys() >= set(Places._fields):
        return Places(*(kept[name] for name in Places._fields))
    places = _compare([sample.image for sample in normal], reading)
    keep_answer(path, places.to_dict(), "compares places")
    return places


def _compare(paths: Sequence[Path], reading: ImageReading) -> Places:
    """Compare the places of some of these images, always the same ones."""
    import numpy as np
    import torch

    from adjobs.data.images import load_rgb
    from adjobs.data.packing import scale
    from adjobs.synthesis.places import SIDE, compare_places

    generator = torch.Generator().manual_seed(0)
    chosen = [paths[index] for index in torch.randperm(len(paths), generator=generator)[:MAX_IMAGES].tolist()]
    with waiting_for(f"comparing the places of {len(chosen)} normal images"):
        pixels = in_threads(lambda path: load_rgb(path, SIDE, reading), chosen, text="reading images")
        return compare_places(scale(torch.from_numpy(np.stack(pixels))), generator)


def resolve_places(job: JobConfig, data: PreparedData, cache: Path) -> tuple[JobConfig, Places | None]:
    """The job with the value of its method's place parameter, where the job leaves it to the data, and what it follows from."""
    place_param = methods.spec(job.method).place_param
    if place_param is None or job.params[place_param.param] != LEFT_OPEN:
        return job, None
    only_with, places, value = place_param.only_with, None, place_param.any_place
    if only_with is None or job.params[only_with[0]] == only_with[1]:
        places = find_places(data.dataset, data.split, data.reading, data.fingerprint, cache)
        value = place_param.same_place if places is None or places.keep_place else place_param.any_place
    return job.model_copy(update={"params": {**job.params, place_param.param: value}}), places


def describe_choice(job: JobConfig, places: Places) -> str:
    """What was measured, and the parameter that follows from it."""
    place_param = methods.spec(job.method).place_param
    assert place_param is not None
    return f"{places.describe()}, so params.{place_param.param}={job.params[place_param.param]}"
