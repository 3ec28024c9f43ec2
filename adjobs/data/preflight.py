"""Read everything before a long job and list all that is wrong at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from adjobs.data.files import content_hash
from adjobs.data.images import ImageError, decode, decode_mask
from adjobs.data.index import Index, Sample
from adjobs.data.parallel import in_threads
from adjobs.errors import DataError

MIN_NORMALS = 10
"""Fewer good images than this say too little of what varies among good ones."""

_PART_ORDER = ("train", "val", "test")


@dataclass(frozen=True)
class Problem:
    """Something wrong in a data set.

    Attributes:
        sample: id of the sample, or "" where the whole data set is meant.
        kind: a few fixed words, such as "truncated" or "mask empty".
        message: what was got, what is allowed, what to do.
    """

    sample: str
    kind: str
    message: str


def check(index: Index, progress: bool = False) -> list[Problem]:
    """Decode every image and mask and return all problems: of samples by id, then of the whole data set."""
    results = in_threads(_inspect, index.samples, text="checking", progress=progress)
    problems = [problem for _, found in results for problem in found]
    copies: dict[str, list[Sample]] = defaultdict(list)
    for sample, (digest, _) in zip(index.samples, results, strict=True):
        if digest and sample.label != "unlabelled":
            copies[digest].append(sample)
    for same in copies.values():
        problems.extend(_duplicates(same))
    problems.sort(key=lambda problem: (problem.sample, problem.kind))
    return problems + list(_too_few(index, problems))


def without(index: Index, problems: Iterable[Problem]) -> Index:
    """The index without the samples that the problems name."""
    named = {problem.sample for problem in problems}
    return replace(index, samples=tuple(sample for sample in index.samples if sample.id not in named))


def _inspect(sample: Sample) -> tuple[str | None, list[Problem]]:
    """Content hash of the image, None where it cannot be used, and the problems of one sample."""
    try:
        digest = content_hash(sample.image)
        size = decode(sample.image).size
    except ImageError as error:
        return None, [Problem(sample.id, error.kind, error.reason)]
    except DataError as error:
        return None, [Problem(sample.id, "unreadable", str(error))]
    return digest, list(_mask_problems(sample, sample.mask, size)) if sample.mask else []


def _mask_problems(sample: Sample, path: Path, size: tuple[int, int]) -> Iterator[Problem]:
    try:
        mask = decode_mask(path)
    except ImageError as error:
        yield Problem(sample.id, "mask unreadable", f"mask {path.name} {error.reason}")
        return
    height, width = mask.shape
    if (width, height) != size:
        got = f"mask {path.name} is {width} x {height} pixels, its image {size[0]} x {size[1]}"
        yield Problem(sample.id, "mask size", f"{got}; both must be equal; export the mask at the image's size")
    if sample.label == "anomalous" and not mask.any():
        reason = "marks no pixel on an anomalous image; draw the defect, or remove the mask if its place is unknown"
        yield Problem(sample.id, "mask empty", f"mask {path.name} {reason}")
    if sample.label == "normal" and mask.any():
        reason = f"marks {int(mask.sum())} pixels on a normal image, which has no defects; correct the label or the mask"
        yield Problem(sample.id, "mask not empty", f"mask {path.name} {reason}")


def _duplicates(same: list[Sample]) -> Iterator[Problem]:
    """Problems of images with equal content: labels that contradict each other, copies in two published parts."""
    if len({sample.label for sample in same}) > 1:
        for sample in same:
            other = next(s for s in same if s.label != sample.label)
            got = f"is {sample.label}, and the same image {other.id} is {other.label}"
            yield Problem(sample.id, "duplicate label", f"{got}; an image has one label; correct or remove one of the two")
        return
    published = [sample for sample in same if sample.part in _PART_ORDER]
    # The copy in the later part is kept, so that the published test part stays what others report on.
    last = max(published, key=lambda sample: _PART_ORDER.index(sample.part or ""), default=None)
    for sample in published:
        if last and sample.part != last.part:
            got = f"is in part {sample.part}, and the same image {last.id} in part {last.part}"
            yield Problem(sample.id, "duplicate part", f"{got}; an image belongs to one part; remove one of the two")


def _too_few(index: Index, problems: list[Problem]) -> Iterator[Problem]:
    total = sum(sample.label == "normal" for sample in index.samples)
    usable = sum(sample.label == "normal" for sample in without(index, problems).samples)
    if usable < MIN_NORMALS:
        kind, got = ("few normals", f"{usable}") if usable else ("no normals", "no")
        got += f" usable normal images (of {total})"
        yield Problem("", kind, f"{got}; at least {MIN_NORMALS} are needed; add good images or mend those above")
