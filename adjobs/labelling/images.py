"""Images that may be labelled, and those that a model knows already."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adjobs.data.dataset import Dataset
from adjobs.data.open import open_dataset
from adjobs.errors import DataError
from adjobs.inference.inputs import find_images
from adjobs.inference.sources import S3, expand_sources
from adjobs.storage import fetch
from adjobs.tracking.layout import StoredRun

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageSource:
    """An image that may be labelled.

    Attributes:
        path: the local file.
        uri: its address in a bucket, ``s3://…``; None for files of this machine.
    """

    path: Path
    uri: str | None = None

    @property
    def name(self) -> str:
        """As it is named to people."""
        return self.uri or str(self.path)


@dataclass(frozen=True)
class KnownImages:
    """The images that a model knows.

    Attributes:
        train: those that it was trained on, sorted.
        labelled: those of its data set with a label, sorted.
        defects: types of defects in the data set, the most frequent first.
    """

    train: tuple[Path, ...] = ()
    labelled: tuple[Path, ...] = ()
    defects: tuple[str, ...] = ()


def find_sources(images: Sequence[str | Path], cache: Path, *, follow_links: bool = False) -> list[ImageSource]:
    """Images that are named: files, folders, patterns, ``s3://`` addresses, and lists of these.

    Args:
        images: see :func:`adjobs.inference.sources.expand_sources`, in any order; an image that is named twice is listed once.
        cache: folder into which ``s3://`` images are downloaded.
        follow_links: follow links out of folders.

    Raises:
        DataError: a path that does not exist, a pattern without images, or a folder without images.
        StorageError: S3 is unreachable or refuses access.
    """
    sources: dict[str, ImageSource] = {}
    for image in expand_sources([str(image) for image in images]):
        for source in _sources(image, cache, follow_links):
            sources.setdefault(source.uri or str(source.path.absolute()), source)
    if not sources:
        raise DataError("no images; give images, folders of images, patterns or s3:// addresses")
    return list(sources.values())


def find_known(run: StoredRun, cache: Path) -> KnownImages:
    """The images of a run's data set, as it is now.

    Raises:
        DataError: the data cannot be read any more.
        StorageError: S3 is unreachable or refuses access.
    """
    data = run.job.data
    dataset = open_dataset(data.uri, data.format, cache=cache, options=data.read_options)
    train = set(run.split.train)
    labelled = [sample for sample in dataset.samples if sample.label != "unlabelled"]
    return KnownImages(
        train=tuple(sample.image for sample in labelled if sample.id in train),
        labelled=tuple(sample.image for sample in labelled),
        defects=_defect_types(dataset),
    )


def _sources(source: str | Path, cache: Path, follow_links: bool) -> list[ImageSource]:
    if str(source).startswith(S3):
        folder = fetch(str(source), cache)
        uri = str(source).rstrip("/")
        images = find_images([folder]).images
        return [ImageSource(path, f"{uri}/{path.relative_to(folder).as_posix()}") for path in images]
    images, links = find_images([source], follow_links=follow_links)
    if links:
        first = f"{links[0]} -> {os.path.realpath(links[0])}"
        log.warning(
            "%d links lead out of the folders and are not followed, first %s; --follow-links follows them", len(links), first
        )
    return [ImageSource(image) for image in images]


def _defect_types(dataset: Dataset) -> tuple[str, ...]:
    counts = Counter(sample.defect for sample in dataset.samples if sample.label == "anomalous" and sample.defect)
    return tuple(sorted(counts, key=lambda defect: (-counts[defect], defect)))
