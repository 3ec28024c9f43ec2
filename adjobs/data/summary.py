"""Statistics of a data set: images by split, label and defect type, kinds of labels, groups, image sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from adjobs.data.dataset import Dataset, Sample
from adjobs.data.images import ImageError, image_size
from adjobs.data.problem import Problem
from adjobs.data.splits.assignment import SplitAssignment
from adjobs.data.splits.protocols import SplitSamples
from adjobs.parallel import in_threads


def count_by_split(dataset: Dataset, split: SplitAssignment | None) -> list[dict[str, Any]]:
    """Number of images by split ("" for none), label and defect type, in the order of a table."""
    split_of = _split_names(split)
    counts = Counter((split_of.get(sample.id, ""), sample.label, sample.defect) for sample in dataset.samples)
    order = [*SplitSamples._fields, ""]
    keys = sorted(counts, key=lambda key: (order.index(key[0]), key[1] != "normal", key))
    return [
        {"split": name, "label": label, "defect": defect, "count": counts[name, label, defect]} for name, label, defect in keys
    ]


def count_label_kinds(dataset: Dataset) -> dict[str, int]:
    """Number of images with masks, blocks and boxes, and of unlabelled ones."""
    return {
        "masks": sum(sample.mask is not None for sample in dataset.samples),
        "blocks": sum(sample.blocks is not None for sample in dataset.samples),
        "boxes": sum(bool(sample.boxes) for sample in dataset.samples),
        "unlabelled": sum(sample.label == "unlabelled" for sample in dataset.samples),
    }


def count_problems(problems: Iterable[Problem]) -> list[dict[str, Any]]:
    """Number of problems by severity and kind."""
    counts = Counter((problem.severity, problem.kind) for problem in problems)
    return [{"severity": severity, "kind": kind, "count": count} for (severity, kind), count in sorted(counts.items())]


def count_groups(dataset: Dataset, split: SplitAssignment | None) -> dict[str, int]:
    """Number of groups, and of those in several splits, which make test results optimistic."""
    split_of = _split_names(split)
    splits_by_group: dict[str, set[str]] = {}
    for sample in dataset.samples:
        if sample.group is not None:
            splits_by_group.setdefault(sample.group, set()).update({split_of[sample.id]} if sample.id in split_of else ())
    return {"count": len(splits_by_group), "across_splits": sum(len(names) > 1 for names in splits_by_group.values())}


def summarize_sizes(dataset: Dataset, *, progress: bool = False) -> dict[str, Any]:
    """Smallest, largest (by pixels) and most common (width, height), and the number of unreadable headers."""
    counts = Counter(in_threads(_image_size, dataset.samples, text="reading sizes", progress=progress))
    unreadable = counts.pop(None, 0)
    by_area = sorted((size for size in counts if size), key=lambda size: (size[0] * size[1], size))
    if not by_area:
        return {"unreadable": unreadable}
    common, count = counts.most_common(1)[0]
    return {"min": by_area[0], "max": by_area[-1], "common": common, "common_count": count, "unreadable": unreadable}


def _image_size(sample: Sample) -> tuple[int, int] | None:
    try:
        return image_size(sample.image)
    except ImageError:
        return None


def _split_names(split: SplitAssignment | None) -> dict[str, str]:
    """Name of the split by sample id."""
    return {sample_id: name for name in SplitSamples._fields for sample_id in getattr(split, name, ())}
