"""What a data set holds, in numbers: images by part, label and defect type, kinds of labels, groups, sizes."""

from __future__ import annotations

from collections import Counter
from typing import Any

from adjobs.data.dataset import Dataset, Sample
from adjobs.data.images import ImageError, image_size
from adjobs.data.splits.assignment import SplitAssignment
from adjobs.data.splits.protocols import Parts
from adjobs.parallel import in_threads


def parts(index: Dataset, split: SplitAssignment | None) -> list[dict[str, Any]]:
    """Images by part ("" for none), label and defect type, in the order of a table."""
    part_of = _part_of(split)
    counts = Counter((part_of.get(s.id, ""), s.label, s.defect) for s in index.samples)
    order = [*Parts._fields, ""]
    keys = sorted(counts, key=lambda key: (order.index(key[0]), key[1] != "normal", key))
    return [
        {"part": part, "label": label, "defect": defect, "count": counts[part, label, defect]} for part, label, defect in keys
    ]


def label_kinds(index: Dataset) -> dict[str, int]:
    """How many images have masks, blocks and boxes, and how many no label at all."""
    return {
        "masks": sum(sample.mask is not None for sample in index.samples),
        "blocks": sum(sample.blocks is not None for sample in index.samples),
        "boxes": sum(bool(sample.boxes) for sample in index.samples),
        "unlabelled": sum(sample.label == "unlabelled" for sample in index.samples),
    }


def groups(index: Dataset, split: SplitAssignment | None) -> dict[str, int]:
    """How many groups there are, and how many the split divides; test results on those are too good."""
    part_of = _part_of(split)
    places: dict[str, set[str]] = {}
    for sample in index.samples:
        if sample.group is not None:
            places.setdefault(sample.group, set()).update({part_of[sample.id]} if sample.id in part_of else ())
    return {"count": len(places), "divided": sum(len(found) > 1 for found in places.values())}


def sizes(index: Dataset, *, progress: bool = False) -> dict[str, Any]:
    """Smallest, largest (by pixels) and most frequent (width, height), and how many headers cannot be read."""
    found = Counter(in_threads(_size, index.samples, text="measuring", progress=progress))
    unreadable = found.pop(None, 0)
    by_area = sorted((size for size in found if size), key=lambda size: (size[0] * size[1], size))
    if not by_area:
        return {"unreadable": unreadable}
    common, count = found.most_common(1)[0]
    return {"min": by_area[0], "max": by_area[-1], "common": common, "common_count": count, "unreadable": unreadable}


def _size(sample: Sample) -> tuple[int, int] | None:
    try:
        return image_size(sample.image)
    except ImageError:
        return None


def _part_of(split: SplitAssignment | None) -> dict[str, str]:
    return {name: part for part in Parts._fields for name in getattr(split, part, ())}
