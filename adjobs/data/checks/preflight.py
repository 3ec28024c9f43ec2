"""Read everything before a long job and list all that is wrong at once."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

from adjobs.data.checks import duplicates
from adjobs.data.checks.labels import label_problems
from adjobs.data.dataset import Dataset, Sample
from adjobs.data.images import ImageError, decode
from adjobs.data.splits.assignment import SplitAssignment
from adjobs.data.splits.protocols import Parts
from adjobs.data.walk import content_hash
from adjobs.errors import DataError
from adjobs.parallel import in_threads

MIN_NORMALS = 10
"""Fewer good images than this say too little of what varies among good ones."""

MIN_SIDE = 32
"""Pixels of the shorter side below which an image is called tiny: feature extractors halve it five times."""

SHAPE, AREA = 1.25, 2.0
"""Factors by which an image's aspect ratio and number of pixels may differ from their medians without a word."""

SPREAD = 3.0
"""Where shapes or areas vary by themselves: so many times the distance within which three quarters lie, if that is more."""

ONE_COLOUR = 4
"""Grey levels between darkest and brightest of an image of one colour; JPEG and sensors leave so much."""

GREY, COLOURED = 2, 12
"""Grey levels between the channels, at most on a grey image, at least somewhere on one in colour; between, nobody knows."""

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Problem:
    """Something wrong in a data set.

    Attributes:
        sample: id of the sample, or "" where the whole data set is meant.
        kind: a few fixed words, such as "truncated" or "mask empty".
        message: what was got, what is allowed, what to do.
        severity: an error stands in the way of training, or its sample is left out; a warning is told and recorded.
    """

    sample: str
    kind: str
    message: str
    severity: Severity = "error"


@dataclass(frozen=True)
class Limits:
    """What a job needs of its data.

    Attributes:
        min_normal: usable normal images in the whole data set.
        train_anomalies: whether the method needs labelled anomalies to train on.
        val_anomalies: whether the threshold needs anomalies in validation.
        val_choice: whether validation is to choose the checkpoint; without anomalies there it will be the last.
        val_normals: normal images in validation.
    """

    min_normal: int = MIN_NORMALS
    train_anomalies: bool = False
    val_anomalies: bool = False
    val_choice: bool = False
    val_normals: int = 1


class _Seen(NamedTuple):
    """What is known of an image that was decoded once."""

    sample: Sample
    digest: str
    size: tuple[int, int]
    coloured: bool | None
    look: duplicates.Look


def check(
    index: Dataset,
    split: SplitAssignment | Callable[[Dataset], SplitAssignment] | None = None,
    *,
    limits: Limits | None = None,
    progress: bool = False,
) -> list[Problem]:
    """Decode every image and label, and return all problems.

    Args:
        index: the data set.
        split: how it is divided, or a function that divides what is left without the samples that errors name. Without a
            split, nothing is compared between parts.
        limits: what the job needs.
        progress: show progress bars on a terminal's standard error.

    Returns:
        Errors, then warnings; of both, those of samples by id, then those of the whole data set.

    Raises:
        JobError: the split cannot be had, whatever the images are.
    """
    limits = limits or Limits()
    if callable(split):
        with suppress(DataError):  # said with all others below; a wrong k or seed is no fault of the data and is said at once
            split(index)
    results = in_threads(_inspect, index.samples, text="checking", progress=progress)
    seen = [result for result, _ in results if result]
    problems = [problem for _, found in results for problem in found]
    copies: dict[str, list[Sample]] = defaultdict(list)
    for one in seen:
        if one.sample.label != "unlabelled":
            copies[one.digest].append(one.sample)
    for same in copies.values():
        problems.extend(_duplicates(same))
    rest = without(index, problems)
    problems.extend(_too_few(index, rest, limits))
    problems.extend(_odd(seen))
    problems.extend(_unlabelled(index))
    try:
        found = split(rest) if callable(split) else split
    except DataError as error:
        problems.append(Problem("", "split", str(error)))
    else:
        problems.extend(_of_split(rest, seen, found, limits, progress) if found else ())
    return sorted(problems, key=lambda p: (p.severity, not p.sample, p.sample, p.kind))


def without(index: Dataset, problems: Iterable[Problem]) -> Dataset:
    """The index without the samples that errors name."""
    named = {problem.sample for problem in problems if problem.severity == "error"}
    return replace(index, samples=tuple(sample for sample in index.samples if sample.id not in named))


def _inspect(sample: Sample) -> tuple[_Seen | None, list[Problem]]:
    """What the image looks like, None where it cannot be used, and the problems of one sample."""
    try:
        digest = content_hash(sample.image)
        image = decode(sample.image)
    except ImageError as error:
        return None, [Problem(sample.id, error.kind, error.reason)]
    except DataError as error:
        return None, [Problem(sample.id, "unreadable", str(error))]
    small = image.resize((duplicates.SIDE, duplicates.SIDE), Image.Resampling.BILINEAR)
    found = [Problem(sample.id, *finding) for finding in label_problems(sample, image.size)]
    found.extend(_poor(sample, image))
    return _Seen(sample, digest, image.size, _coloured(small), duplicates.look(small)), found


def _poor(sample: Sample, image: Image.Image) -> Iterator[Problem]:
    """Images on which nothing can be seen."""
    width, height = image.size
    if min(width, height) < MIN_SIDE:
        got = f"is {width} x {height} pixels; {MIN_SIDE} a side are the least that shows a defect"
        yield Problem(sample.id, "tiny", f"{got}; take it out, or export it larger", "warning")
    ranges = np.reshape(image.getextrema(), (-1, 2))
    if np.ptp(ranges, axis=1).max() <= ONE_COLOUR:
        got = f"is of one colour ({', '.join(map(str, ranges[:, 0]))})"
        yield Problem(sample.id, "one colour", f"{got}; an image of the part is needed; check the camera, take it out", "warning")


def _coloured(small: Image.Image) -> bool | None:
    """Whether an image has colour; None where its channels differ a little, as those of grey things before a camera do."""
    if small.mode == "L":
        return False
    apart = int(np.ptp(np.asarray(small, dtype=np.int16), axis=2).max())
    return False if apart <= GREY else True if apart >= COLOURED else None


def _duplicates(same: list[Sample]) -> Iterator[Problem]:
    """Problems of images with equal content: labels that contradict each other, copies in two published parts."""
    if len({sample.label for sample in same}) > 1:
        first = {sample.label: sample for sample in reversed(same)}
        for sample in same:
            other = next(first[label] for label in first if label != sample.label)
            got = f"is {sample.label}, and the same image {other.id} is {other.label}"
            yield Problem(sample.id, "duplicate label", f"{got}; an image has one label; correct or remove one of the two")
        return
    published = [sample for sample in same if sample.published_split in Parts._fields]
    # The copy in the later part is kept, so that the published test part stays what others report on.
    last = max(published, key=lambda sample: Parts._fields.index(str(sample.published_split)), default=None)
    for sample in published:
        if last and sample.published_split != last.published_split:
            got = f"is in part {sample.published_split}, and the same image {last.id} in part {last.published_split}"
            yield Problem(sample.id, "duplicate part", f"{got}; an image belongs to one part; remove one of the two")


def _too_few(index: Dataset, rest: Dataset, limits: Limits) -> Iterator[Problem]:
    total = sum(sample.label == "normal" for sample in index.samples)
    usable = sum(sample.label == "normal" for sample in rest.samples)
    if usable < limits.min_normal:
        kind, got = ("few normals", f"{usable}") if usable else ("no normals", "no")
        got += f" usable normal images (of {total})"
        yield Problem("", kind, f"{got}; at least {limits.min_normal} are needed; add good images or mend those above")


def _unlabelled(index: Dataset) -> Iterator[Problem]:
    count = sum(sample.label == "unlabelled" for sample in index.samples)
    if count:
        got = f"{count} of {len(index.samples)} images are unlabelled"
        yield Problem("", "unlabelled", f"{got}; only labelled ones train and test; label them, or leave them", "warning")


def _odd(seen: list[_Seen]) -> Iterator[Problem]:
    """Images unlike most others: the fewer of grey and coloured ones, and those of another size or shape."""
    if not seen:
        return
    kinds = Counter(one.coloured for one in seen if one.coloured is not None)
    rare = len(kinds) > 1 and kinds[True] <= kinds[False]
    words = {True: "in colour", False: "grey"}
    for one in seen:
        if len(kinds) > 1 and one.coloured is rare:
            got = f"is {words[rare]}, {kinds[not rare]} other images are {words[not rare]}"
            message = f"{got}; all must come from one kind of camera; convert it, or take it out"
            yield Problem(one.sample.id, "mode", message, "warning")
    sizes = np.log([one.size for one in seen])
    shape, area = sizes[:, 0] - sizes[:, 1], sizes.sum(axis=1)
    for one, strange in zip(seen, _far(shape, SHAPE) | _far(area, AREA), strict=True):
        if strange:
            width, height = np.exp((np.median(area) + np.array([1, -1]) * np.median(shape)) / 2)
            got = f"is {one.size[0]} x {one.size[1]} pixels, the middle of all is {width:.0f} x {height:.0f}"
            message = f"{got}; all are stretched to one square, this one unlike the others; check that it belongs here"
            yield Problem(one.sample.id, "size", message, "warning")


def _far(values: np.ndarray, factor: float) -> np.ndarray:
    """Whether logarithms lie far from their median."""
    distance = np.abs(values - np.median(values))
    far: np.ndarray = distance > max(np.log(factor), SPREAD * float(np.quantile(distance, 0.75)))
    return far


def _of_split(rest: Dataset, seen: list[_Seen], split: SplitAssignment, limits: Limits, progress: bool) -> Iterator[Problem]:
    part_of = {name: part for part in Parts._fields for name in getattr(split, part)}
    used = {sample.id: sample for sample in rest.samples if sample.id in part_of}
    yield from _lacking(Counter((part_of[name], sample.label) for name, sample in used.items()), limits)
    yield from _divided_groups(used.values(), part_of)
    yield from _leaks([one for one in seen if one.sample.id in used], part_of, progress)


def _lacking(counts: Counter[tuple[str, str]], limits: Limits) -> Iterator[Problem]:
    """Labels that the job needs and the split does not have."""
    for needed, part, label, least in (
        (limits.train_anomalies, "train", "anomalous", 1),
        (limits.val_anomalies, "val", "anomalous", 1),
        (limits.val_normals > 0, "val", "normal", limits.val_normals),
    ):
        have = counts[part, label]
        if needed and have < least:
            got = f"part {part} has {have or 'no'} {label} images; at least {least} needed"
            todo = "label more, or choose another protocol, k, method or threshold"
            yield Problem("", f"few {label} in {part}", f"{got}; {todo}")
    if limits.val_choice and not limits.val_anomalies and not counts["val", "anomalous"]:
        got = "part val has no anomalous images, so the last checkpoint becomes the model"
        message = f"{got}; label some, or choose a protocol that puts some there"
        yield Problem("", "no choice of checkpoint", message, "warning")


def _divided_groups(samples: Iterable[Sample], part_of: dict[str, str]) -> Iterator[Problem]:
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        if sample.group is not None:
            groups[sample.group].append(sample)
    for name, members in groups.items():
        counts = Counter(part_of[sample.id] for sample in members)
        if len(counts) > 1:
            got = f"its group {name} is divided: " + ", ".join(f"{part} {counts[part]}" for part in Parts._fields if counts[part])
            message = f"{got}; results on images of a known part are too good; choose a protocol that keeps groups whole"
            last = max(members, key=lambda sample: Parts._fields.index(part_of[sample.id]))
            yield Problem(last.id, "divided group", message, "warning")


def _leaks(seen: list[_Seen], part_of: dict[str, str], progress: bool) -> Iterator[Problem]:
    """Images that another part of the split has, too: the same file, or nearly the same picture; not those of one group."""
    copies: dict[str, dict[str, str]] = defaultdict(dict)  # the first image of this content in each part
    for one in seen:
        copies[one.digest].setdefault(part_of[one.sample.id], one.sample.id)
    todo = "results on it are too good; keep one of the two, or give both one group"
    parts = [part_of[one.sample.id] for one in seen]
    kin = [one.sample.group or one.sample.id for one in seen]
    matches = duplicates.across([one.look for one in seen], parts, kin, progress=progress)
    for place, one in enumerate(seen):
        name = one.sample.id
        other = next((copy for part, copy in copies[one.digest].items() if part != part_of[name]), None)
        if other:
            got = f"is in part {part_of[name]}, and the same image {other} in part {part_of[other]}"
            yield Problem(name, "duplicate in split", f"{got}; {todo}", "warning")
        elif place in matches:
            other, alike = seen[matches[place].other].sample.id, matches[place].similarity
            got = f"is in part {part_of[name]}, and {other} in part {part_of[other]} is nearly the same (similarity {alike:.2f})"
            yield Problem(name, "near duplicate", f"{got}; {todo}", "warning")
