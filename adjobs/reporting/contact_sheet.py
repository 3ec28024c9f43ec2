"""A contact sheet of a data set: of each class a few images drawn at random, with their labels and what is wrong with them."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from adjobs.data.checks.images import ContentReader, inspect_image
from adjobs.data.dataset import Dataset, Sample
from adjobs.data.image_reading import DEFAULT_SCALE, PixelScale
from adjobs.data.images import find_reading
from adjobs.data.problem import Problem
from adjobs.parallel import in_threads
from adjobs.reporting.thumbnail import Thumbnail, draw_thumbnail

PER_CLASS = 8
"""Images of each class, by default."""

MAX_SIDE, MIN_SIDE = 280, 96
"""Longer side of a thumbnail in pixels."""

BYTES = 2_000_000
"""Of all thumbnails of a page, roughly; the page is a third larger."""

_BYTES_PER_PIXEL = 0.4  # of a JPEG with much detail


class Entry(NamedTuple):
    """One image of a sheet, with all its problems that need no other image."""

    sample: Sample
    thumbnail: Thumbnail
    problems: list[Problem]

    @property
    def facts(self) -> str:
        """Size, published split and labels, in one line."""
        sample, size = self.sample, self.thumbnail.size
        facts = [] if size is None else [f"{size[0]} x {size[1]}"]
        facts += [sample.published_split] if sample.published_split else []
        facts += [f"group {sample.group}"] if sample.group is not None else []
        coverage = self.thumbnail.coverage
        if coverage is not None:
            facts += [f"mask {percent(coverage)}"] if coverage or sample.label != "normal" else []
        elif sample.mask is not None:
            facts.append("mask not drawn")
        if sample.boxes:
            facts.append("1 box" if len(sample.boxes) == 1 else f"{len(sample.boxes)} boxes")
        facts += ["blocks"] if sample.blocks is not None else []
        if sample.label == "anomalous" and sample.mask is None and not sample.boxes and sample.blocks is None:
            facts.append("no mask, no box")
        return ", ".join(facts)


@dataclass(frozen=True)
class Group:
    """Images of one class: ``count`` in the whole data set, of which ``entries`` are drawn."""

    title: str
    count: int
    entries: list[Entry]


@dataclass(frozen=True)
class ContactSheet:
    """A drawn data set.

    Attributes:
        name: of the data set's folder.
        uri: as the user gave it.
        format: its layout.
        images: number in the data set.
        per_class: largest number of images of each class.
        seed: of the choice of images.
        side: of the thumbnails, in pixels.
        groups: images in which the reader found problems, if there are any; then normal, each defect type, and unlabelled ones.
        messages: problems of the data set as a whole.
    """

    name: str
    uri: str
    format: str
    images: int
    per_class: int
    seed: int
    side: int
    groups: list[Group]
    messages: list[str]

    @property
    def entries(self) -> dict[str, Entry]:
        """All drawn images by sample id; one may be in two groups."""
        return {entry.sample.id: entry for group in self.groups for entry in group.entries}

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON: what was drawn, and the problems of each image."""
        return {
            "uri": self.uri,
            "format": self.format,
            "images": self.images,
            "per_class": self.per_class,
            "seed": self.seed,
            "groups": [
                {"title": group.title, "count": group.count, "samples": [entry.sample.id for entry in group.entries]}
                for group in self.groups
            ],
            "samples": {name: _entry_dict(entry) for name, entry in self.entries.items()},
            "messages": self.messages,
        }


def draw_contact_sheet(
    dataset: Dataset,
    uri: str,
    *,
    per_class: int = PER_CLASS,
    seed: int = 0,
    scale: PixelScale = DEFAULT_SCALE,
    progress: bool = False,
) -> ContactSheet:
    """Choose images at random and draw them.

    Args:
        dataset: the data set.
        uri: as the user gave it.
        per_class: largest number of images of each class.
        seed: not negative; equal seeds choose equal images of a class, whatever other classes there are.
        scale: what the user says about images of more than 8 bits.
        progress: show progress bars on a terminal's standard error.
    """
    by_title = _classes(dataset)
    chosen = {title: _choose(samples, per_class, title, seed) for title, samples in by_title.items()}
    samples = list({sample.id: sample for members in chosen.values() for sample in members}.values())
    side = thumbnail_side(len(samples))
    reading = find_reading([sample.image for sample in dataset.samples], scale, progress=progress)
    contents = ContentReader(reading)
    of_reader: dict[str, list[Problem]] = defaultdict(list)
    for problem in dataset.problems:
        of_reader[problem.sample].append(problem)

    def draw(sample: Sample) -> Entry:
        problems = [*of_reader.get(sample.id, ()), *inspect_image(sample, contents).problems]
        return Entry(sample, draw_thumbnail(sample, reading, side), problems)

    drawn = {entry.sample.id: entry for entry in in_threads(draw, samples, text="drawing", progress=progress)}
    groups = [Group(title, len(by_title[title]), [drawn[sample.id] for sample in members]) for title, members in chosen.items()]
    messages = [problem.message for problem in of_reader.get("", ())]
    return ContactSheet(dataset.root.name, uri, dataset.format, len(dataset.samples), per_class, seed, side, groups, messages)


def thumbnail_side(count: int) -> int:
    """The longer side of so many thumbnails in pixels, so that a page with all of them stays small."""
    return int(np.clip(np.sqrt(BYTES / (_BYTES_PER_PIXEL * max(1, count))), MIN_SIDE, MAX_SIDE))


def percent(share: float) -> str:
    """A share in per cent, with a digit behind the point where it is small."""
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.2g} %"


def _classes(dataset: Dataset) -> dict[str, list[Sample]]:
    """Samples by the titles of their groups, in order."""
    invalid = {problem.sample for problem in dataset.problems}
    groups: dict[str, list[Sample]] = {}
    if reported := [sample for sample in dataset.samples if sample.id in invalid]:
        groups["problems in label files"] = reported
    groups["normal"] = [sample for sample in dataset.samples if sample.label == "normal"]
    anomalous = [sample for sample in dataset.samples if sample.label == "anomalous"]
    for defect in sorted({sample.defect for sample in anomalous}):
        title = f"anomalous: {defect}" if defect else "anomalous, no type"
        groups[title] = [sample for sample in anomalous if sample.defect == defect]
    groups["unlabelled"] = [sample for sample in dataset.samples if sample.label == "unlabelled"]
    return {title: samples for title, samples in groups.items() if samples}


def _choose(samples: Sequence[Sample], count: int, title: str, seed: int) -> list[Sample]:
    generator = np.random.default_rng([seed, zlib.crc32(title.encode())])
    return [samples[i] for i in sorted(generator.permutation(len(samples))[:count])]


def _entry_dict(entry: Entry) -> Mapping[str, Any]:
    return {
        "label": entry.sample.label,
        "defect": entry.sample.defect,
        "size": entry.thumbnail.size,
        "mask_coverage": entry.thumbnail.coverage,
        "boxes": entry.sample.boxes,
        "problems": [vars(problem) for problem in entry.problems],
    }
