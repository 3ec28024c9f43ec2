"""Checks of a split: missing labels, groups in several splits, and duplicates across splits."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

from adjobs.data.checks.duplicates import find_across_splits
from adjobs.data.checks.images import InspectedImage
from adjobs.data.dataset import Dataset, Sample
from adjobs.data.problem import DataRequirements, Problem
from adjobs.data.splits.assignment import SplitAssignment
from adjobs.data.splits.protocols import SplitSamples
from adjobs.errors import shorten
from adjobs.waits import waiting_for

EVALUATED, UNTYPED = ("val", "test"), "untyped"


def split_problems(
    dataset: Dataset,
    images: Sequence[InspectedImage],
    split: SplitAssignment,
    requirements: DataRequirements,
    progress: bool,
) -> Iterator[Problem]:
    """All problems of a split.

    Args:
        dataset: the usable samples.
        images: the images that could be decoded.
        split: the split to check.
        requirements: what the job requires.
        progress: show a progress bar on a terminal's standard error.
    """
    split_of = {name: split_name for split_name in SplitSamples._fields for name in getattr(split, split_name)}
    used = {sample.id: sample for sample in dataset.samples if sample.id in split_of}
    counts: Counter[tuple[str, str]] = Counter((split_of[name], sample.label) for name, sample in used.items())
    yield from _missing_labels(counts, requirements)
    yield from _missing_masks(used.values(), split_of)
    yield from _leaking_groups(used.values(), split_of)
    yield from _duplicates([image for image in images if image.sample.id in used], split_of, progress)


def group_advice(samples: Iterable[Sample]) -> str:
    """How two images of one part are kept in the same split: most layouts have no groups, a manifest always may."""
    if any(sample.group is not None for sample in samples):
        return "give both the same group"
    return "copy the data with 'adjobs data import' and give both the same group in its manifest"


def _missing_labels(counts: Counter[tuple[str, str]], requirements: DataRequirements) -> Iterator[Problem]:
    """Labels that the job needs and the split lacks, and what becomes undefined without them."""
    for required, split_name, label, minimum in (
        (requirements.needs_train_anomalies, "train", "anomalous", 1),
        (requirements.needs_val_anomalies, "val", "anomalous", 1),
        (requirements.min_val_normals > 0, "val", "normal", requirements.min_val_normals),
    ):
        count = counts[split_name, label]
        if required and count < minimum:
            message = (
                f"the {split_name} split has {count or 'no'} {label} images; at least {minimum} required; "
                "label more images, or choose another protocol, max_train_anomalies, method or threshold"
            )
            yield Problem("", f"few {label} images in {split_name}", message)
    if requirements.selects_on_val and not requirements.needs_val_anomalies and not counts["val", "anomalous"]:
        message = (
            "the val split has no anomalous images, so the last checkpoint is used as the model; "
            "label some, or choose a protocol that puts some there"
        )
        yield Problem("", "no checkpoint selection", message, "warning")
    if not counts["test", "anomalous"]:
        message = (
            "the test split has no anomalous images, so the test measures false alarms only: AUROC, recall and all other metrics "
            "of anomalies are undefined; label some defects before you rely on the model"
        )
        yield Problem("", "no anomalous images in test", message, "warning")


def _missing_masks(samples: Iterable[Sample], split_of: dict[str, str]) -> Iterator[Problem]:
    """Evaluated images without masks, in a data set that has masks: pixel metrics need them all. None at all may be a choice."""
    anomalous = [sample for sample in samples if sample.label == "anomalous"]
    if all(sample.mask is None for sample in anomalous):
        return
    for split_name in EVALUATED:
        members = [sample for sample in anomalous if split_of[sample.id] == split_name]
        totals = Counter(sample.defect or UNTYPED for sample in members)
        missing = Counter(sample.defect or UNTYPED for sample in members if sample.mask is None)
        if not missing:
            continue
        listed = shorten(", ".join(f"{defect} {count} of {totals[defect]}" for defect, count in missing.most_common()))
        effect = "pixel metrics of all images are undefined" if split_name == "test" else "masks choose no pixel threshold"
        others = ", and only the other defect types have pixel metrics" if missing.keys() < totals.keys() else ""
        message = (
            f"{missing.total()} of {len(members)} anomalous images of the {split_name} split have no mask ({listed}), so "
            f"{effect}{others}; draw the missing masks, or ignore this warning"
        )
        yield Problem("", "missing masks", message, "warning")


def _leaking_groups(samples: Iterable[Sample], split_of: dict[str, str]) -> Iterator[Problem]:
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        if sample.group is not None:
            groups[sample.group].append(sample)
    for name, members in groups.items():
        counts = Counter(split_of[sample.id] for sample in members)
        if len(counts) > 1:
            listed = ", ".join(f"{split_name} {counts[split_name]}" for split_name in SplitSamples._fields if counts[split_name])
            message = (
                f"its group {name} is in several splits: {listed}; "
                "results on images of a known object are optimistic; choose a protocol that keeps groups together"
            )
            last = max(members, key=lambda sample: SplitSamples._fields.index(split_of[sample.id]))
            yield Problem(last.id, "group across splits", message, "warning")


def _duplicates(images: Sequence[InspectedImage], split_of: dict[str, str], progress: bool) -> Iterator[Problem]:
    """Images that are also in another split: the same file, or a near duplicate from another group."""
    first_copies: dict[str, dict[str, str]] = defaultdict(dict)  # id of the first image with this content, by split
    for image in images:
        first_copies[image.digest].setdefault(split_of[image.sample.id], image.sample.id)
    todo = f"results on it are optimistic; keep one of the two, or {group_advice(image.sample for image in images)}"
    near_duplicates = _near_duplicates(images, split_of, progress)
    for image in images:
        name, split_name = image.sample.id, split_of[image.sample.id]
        copy = next((copy for other, copy in first_copies[image.digest].items() if other != split_name), None)
        if copy:
            message = f"is in the {split_name} split, and the same image {copy} is in the {split_of[copy]} split; {todo}"
            yield Problem(name, "duplicate across splits", message, "warning")
        elif _copy_key(image, split_of) in near_duplicates:
            other, similarity = near_duplicates[_copy_key(image, split_of)]
            message = (
                f"is in the {split_name} split, and its near duplicate {other} (similarity {similarity:.2f}) is in the "
                f"{split_of[other]} split; {todo}"
            )
            yield Problem(name, "near duplicate", message, "warning")


_CopyKey = tuple[str, str, str | None]


def _copy_key(image: InspectedImage, split_of: dict[str, str]) -> _CopyKey:
    """What copies of an image in the same split and group share."""
    return image.digest, split_of[image.sample.id], image.sample.group


def _near_duplicates(
    images: Sequence[InspectedImage], split_of: dict[str, str], progress: bool
) -> dict[_CopyKey, tuple[str, float]]:
    """Id of the most similar image in another split, and the similarity, by the key of all copies of an image.

    Of copies in the same split and group one is compared: all of them would take long, and crowd out what resembles them.
    """
    first: dict[_CopyKey, InspectedImage] = {}
    for image in images:
        first.setdefault(_copy_key(image, split_of), image)
    keys, compared = list(first), [image.sample for image in first.values()]
    with waiting_for(f"searching near duplicates among {len(compared)} images"):
        matches = find_across_splits(
            [image.descriptor for image in first.values()],
            [split_of[sample.id] for sample in compared],
            [sample.group or sample.id for sample in compared],
            progress=progress,
        )
    return {keys[i]: (compared[match.image_index].id, match.similarity) for i, match in matches.items()}
