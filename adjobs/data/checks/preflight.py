"""Check a whole data set before a long job, and list all problems at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

from adjobs.data.checks.images import InspectedImage, inspect_image, outlier_problems
from adjobs.data.checks.splits import split_problems
from adjobs.data.dataset import Dataset, Sample
from adjobs.data.problem import DataRequirements, Problem
from adjobs.data.splits.assignment import SplitAssignment
from adjobs.data.splits.protocols import SplitSamples
from adjobs.errors import DataError
from adjobs.parallel import in_threads


def check_dataset(
    dataset: Dataset,
    split: SplitAssignment | Callable[[Dataset], SplitAssignment] | None = None,
    *,
    requirements: DataRequirements | None = None,
    progress: bool = False,
) -> list[Problem]:
    """Decode every image and label, and return all problems.

    Args:
        dataset: the data set.
        split: its split, or a function that splits the data set without the samples that have errors. Without a split,
            nothing is compared between splits.
        requirements: what the job requires.
        progress: show progress bars on a terminal's standard error.

    Returns:
        Errors, then warnings; each sorted by sample id, followed by those of the data set as a whole.

    Raises:
        JobError: the split is impossible, whatever the images are.
    """
    requirements = requirements or DataRequirements()
    if callable(split):
        with suppress(DataError):  # reported below with all other problems; wrong settings are raised before reading images
            split(dataset)
    results = in_threads(inspect_image, dataset.samples, text="checking", progress=progress)
    images = [image for image, _ in results if image]
    problems = [*dataset.problems, *(problem for _, image_problems in results for problem in image_problems)]
    problems.extend(_copies(images))
    usable = without_invalid(dataset, problems)
    problems.extend(_too_few_normals(dataset, usable, requirements))
    problems.extend(outlier_problems(images))
    problems.extend(_unlabelled(dataset))
    try:
        assignment = split(usable) if callable(split) else split
    except DataError as error:
        problems.append(Problem("", "split", str(error)))
    else:
        if assignment:
            problems.extend(split_problems(usable, images, assignment, requirements, progress))
    return sorted(problems, key=lambda problem: (problem.severity, not problem.sample, problem.sample, problem.kind))


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
