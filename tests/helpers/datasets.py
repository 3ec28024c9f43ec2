"""Open drawn data sets, change the files that describe them, and make data sets and labels without files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from adjobs.data.dataset import Dataset, Sample
from adjobs.data.open import open_dataset
from adjobs.data.reading import DEFAULT_OPTIONS, ReadOptions
from adjobs.data.splits.assignment import SplitAssignment


def open_folder(root: Path | str, format_name: str = "auto", options: ReadOptions = DEFAULT_OPTIONS) -> Dataset:
    """The data set of a local folder."""
    return open_dataset(str(root), format_name, cache=Path("unused"), options=options)


def by_id(samples: list[Sample] | tuple[Sample, ...]) -> dict[str, Sample]:
    """Samples by id, of which there must be no two."""
    assert len({sample.id for sample in samples}) == len(samples)
    return {sample.id: sample for sample in samples}


def edit_json(path: Path, change: Callable[[Any], object]) -> None:
    """Change the document of a JSON file in place."""
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def pack_rle(values: np.ndarray) -> list[int]:
    """Label Studio's run-length code of 8-bit values: one group for each value, and lengths of up to 8."""
    bits = f"{len(values):032b}" + f"{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    bits += "".join(f"{position % 2}00{0:03b}{value:08b}" for position, value in enumerate(values))
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


def make_dataset(n_normal: int, n_anomalous: dict[str, int], n_unlabelled: int = 0) -> Dataset:
    """A data set without files; ``n_anomalous`` is by defect type."""
    samples = [Sample(f"good/{i:04}.png", Path("x"), "normal") for i in range(n_normal)]
    for defect, count in n_anomalous.items():
        samples += [Sample(f"bad/{defect}/{i:04}.png", Path("x"), "anomalous", defect=defect) for i in range(count)]
    samples += [Sample(f"new/{i:04}.png", Path("x"), "unlabelled") for i in range(n_unlabelled)]
    return Dataset(Path("root"), "folder", tuple(sorted(samples, key=lambda sample: sample.id)))


def count_labels(dataset: Dataset, split: SplitAssignment, defect: str | None = None) -> list[tuple[int, int]]:
    """(normal, anomalous) images in train, val and test."""
    samples = by_id(dataset.samples)
    splits = [[samples[name] for name in ids] for ids in (split.train, split.val, split.test)]
    return [
        (sum(s.label == "normal" for s in members), sum(s.label == "anomalous" and defect in (None, s.defect) for s in members))
        for members in splits
    ]


def assert_valid_split(dataset: Dataset, split: SplitAssignment) -> None:
    """Ids are sorted, labelled, and in one split only."""
    ids = [*split.train, *split.val, *split.test]
    assert len(ids) == len(set(ids))
    assert set(ids) <= {sample.id for sample in dataset.samples if sample.label != "unlabelled"}
    assert all(list(members) == sorted(members) for members in (split.train, split.val, split.test))


def split_by_hand(dataset: Dataset, **stems: str) -> SplitAssignment:
    """Splits with these images, named by stems between spaces; all other samples are in train."""
    ids = {sample.image.stem: sample.id for sample in dataset.samples}
    splits = {name: tuple(ids[stem] for stem in text.split()) for name, text in stems.items()}
    train = tuple(sorted(set(ids.values()) - {name for members in splits.values() for name in members}))
    return SplitAssignment("by hand", 0, train=train, val=splits.get("val", ()), test=splits.get("test", ()))
