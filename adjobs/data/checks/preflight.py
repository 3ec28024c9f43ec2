"""Check a whole data set before a long job, and list all problems at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

from adjobs.data.checks.duplicates import DetailFile
from adjobs.data.checks.images import ContentReader, InspectedImage, Inspection, inspect_image, outlier_problems
from adjobs.data.checks.levels import LevelSummary, level_problems, summarize_levels
from adjobs.data.checks.masks import mask_problems
from adjobs.data.checks.splits import split_problems
from adjobs.data.dataset import Dataset, Sample
from adjobs.data.image_reading import DEFAULT_SCALE, ImageReading, PixelScale, decide_reading
from adjobs.data.problem import DataRequirements, Problem
from adjobs.data.splits.assignment import SplitAssignment
from adjobs.data.splits.protocols import SplitSamples
from adjobs.errors import DataError
from adjobs.parallel import in_threads

MAX_DETAILS_IN_MEMORY = 10_000
"""Images whose detail for the search of near duplicates is kept in memory, 16 KiB each; of larger data sets, in a file."""


class DatasetReport(NamedTuple):
    """What is known about a data set after every file was read.

    Attributes:
        problems: errors, then warnings; each sorted by sample id, followed by those of the data set as a whole.
        reading: how its images are read.
        levels: how they use the levels of their pixels; None without usable images.
    """

    problems: list[Problem]
    reading: ImageReading
    levels: LevelSummary | None


def check_dataset(
    dataset: Dataset,
    split: SplitAssignment | Callable[[Dataset], SplitAssignment] | None = None,
    *,
    requirements: DataRequirements | None = None,
    progress: bool = False,
) -> list[Problem]:
    """The problems that :func:`inspect_dataset` finds."""
    return inspect_dataset(dataset, split, requirements=requirements, progress=progress).problems


def inspect_dataset(
    dataset: Dataset,
    split: SplitAssignment | Callable[[Dataset], SplitAssignment] | None = None,
    *,
    requirements: DataRequirements | None = None,
    scale: PixelScale = DEFAULT_SCALE,
    progress: bool = False,
) -> DatasetReport:
    """Decode every image and label, decide how images of more than 8 bits are read, and list all problems.

    Args:
        dataset: the data set.
        split: its split, or a function that splits the data set without the samples that have errors. Without a split,
            nothing is compared between splits.
        requirements: what the job requires.
        scale: what the job says about images of more than 8 bits.
        progress: show progress bars on a terminal's standard error.

    Raises:
        JobError: the split is impossible, whatever the images are.
    """
    requirements = requirements or DataRequirements()
    if callable(split):
        with suppress(DataError):  # reported below with all other problems; wrong settings are raised before reading images
            split(dataset)
    inspections, reading = inspect_images(dataset, scale, progress)
    images = [inspection.image for inspection in inspections if inspection.image]
    problems = [*dataset.problems, *(problem for inspection in inspections for problem in inspection.problems)]
    problems.extend(_copies(images))
    usable = without_invalid(dataset, problems)
    problems.extend(_too_few_normals(dataset, usable, requirements))
    problems.extend(outlier_problems(images))
    problems.extend(mask_problems([inspection.mask for inspection in inspections if inspection.mask]))
    ranges = [inspection.range for inspection in inspections if inspection.image or inspection.range]
    levels = summarize_levels([image.usage for image in images], ranges, reading, scale)
    problems.extend(level_problems(levels, ranges, reading))
    problems.extend(_unlabelled(dataset))
    try:
        assignment = split(usable) if callable(split) else split
    except DataError as error:
        problems.append(Problem("", "split", str(error)))
    else:
        if assignment:
            problems.extend(split_problems(usable, images, assignment, requirements, progress))
    problems.sort(key=lambda problem: (problem.severity, not problem.sample, problem.sample, problem.kind))
    return DatasetReport(problems, reading, levels)


def inspect_images(dataset: Dataset, scale: PixelScale, progress: bool) -> tuple[list[Inspection], ImageReading]:
    """Read all samples; those with more than 8 bits a second time, when the range of all is known.

    Returns:
        An inspection of each sample, in order, and how images are read.
    """
    store = DetailFile().store if len(dataset.samples) > MAX_DETAILS_IN_MEMORY else None
    contents = ContentReader(store=store)
    inspections = in_threads(lambda sample: inspect_image(sample, contents), dataset.samples, text="checking", progress=progress)
    reading = decide_reading([inspection.range for inspection in inspections if inspection.image or inspection.range], scale)
    deep = [i for i, inspection in enumerate(inspections) if inspection.range]
    contents = ContentReader(reading, store)
    again = in_threads(
        lambda i: inspect_image(dataset.samples[i], contents), deep, text="checking", progress=progress and bool(deep)
    )
    for i, inspection in zip(deep, again, strict=True):
        inspections[i] = inspection
    return inspections, reading


def without_invalid(dataset: Dataset, problems: Iterable[Problem]) -> Dataset:
    """The data set without the samples that have errors."""
    invalid = {problem.sample for problem in problems if problem.severity == "error"}
    return replace(dataset, samples=tuple(sample for sample in dataset.samples if sample.id not in invalid))


def _copies(images: Sequence[InspectedImage]) -> Iterator[Problem]:
    """Problems of labelled images with equal content."""
    copies: dict[str, list[Sample]] = defaultdict(list)
    for image in images:
        if image.sample.label != "unlabelled":
            copies[image.digest].append(image.sample)
    for samples in copies.values():
        yield from _conflicting_labels(samples) if len({s.label for s in samples}) > 1 else _published_copies(samples)


def _conflicting_labels(copies: list[Sample]) -> Iterator[Problem]:
    first_by_label = {sample.label: sample for sample in reversed(copies)}
    for sample in copies:
        other = next(first_by_label[label] for label in first_by_label if label != sample.label)
        message = (
            f"is {sample.label}, but the same image {other.id} is {other.label}; "
            "an image has one label; fix or remove one of the two"
        )
        yield Problem(sample.id, "conflicting labels", message)


def _published_copies(copies: list[Sample]) -> Iterator[Problem]:
    published = [sample for sample in copies if sample.published_split in SplitSamples._fields]
    # The copy in the last split is kept, so that the published test split stays the one that others report on.
    last = max(published, key=lambda sample: SplitSamples._fields.index(str(sample.published_split)), default=None)
    for sample in published:
        if last and sample.published_split != last.published_split:
            message = (
                f"is in the {sample.published_split} split, and the same image {last.id} is in the {last.published_split} split; "
                "an image belongs to one split; remove one of the two"
            )
            yield Problem(sample.id, "duplicate in published splits", message)


def _too_few_normals(dataset: Dataset, usable: Dataset, requirements: DataRequirements) -> Iterator[Problem]:
    total = sum(sample.label == "normal" for sample in dataset.samples)
    count = sum(sample.label == "normal" for sample in usable.samples)
    if count < requirements.min_normal_images:
        message = (
            f"{count or 'no'} usable normal images (of {total}); at least {requirements.min_normal_images} required; "
            "add normal images or fix those above"
        )
        yield Problem("", "few normal images" if count else "no normal images", message)


def _unlabelled(dataset: Dataset) -> Iterator[Problem]:
    count = sum(sample.label == "unlabelled" for sample in dataset.samples)
    if count:
        message = (
            f"{count} of {len(dataset.samples)} images are unlabelled; they are used neither for training nor for test; "
            "label them, or ignore this warning"
        )
        yield Problem("", "unlabelled", message, "warning")
