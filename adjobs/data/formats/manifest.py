"""A list of images with all their labels, one line of CSV or JSON for each image.

Keys of a line (columns of the CSV), of which ``image`` and ``label`` are required; paths are relative to the data set's folder:

- ``image``: the file; ``label``: normal, anomalous or unlabelled; ``defect``, ``group``: any text; ``split``: train, val or test.
- ``mask``: an image. In JSON also a list of images, one for each defect, with ``kinds`` for the file that describes their
  values, or ``{"segmentations", "width", "height"}`` as COCO writes them.
- ``blocks``: a small grey image of a block grid; ``boxes``: ``[[left, top, right, bottom], …]`` in pixels.
- ``sha256``: checksum of the image; not read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from adjobs.data.annotations import INVALID
from adjobs.data.dataset import Sample
from adjobs.data.lookup import ImageFinder
from adjobs.data.manifest_lines import LineReader, refuse_unknown
from adjobs.data.reading import ReadContext
from adjobs.data.walk import read_csv, read_text
from adjobs.errors import DataError, one_line, shorten

NAME = "manifest"
DESCRIPTION = (
    "manifest.jsonl or manifest.csv with image and label on each line, and mask, blocks, boxes, defect, group, split if known"
)

_FILES = ("manifest.jsonl", "manifest.csv")

UNFINISHED = "unfinished: run the same 'adjobs data import' again"
"""Starts the manifest of an import that has not ended, a list in place of the first line."""


def recognises(root: Path) -> bool:
    """Whether there is a manifest."""
    return any((root / name).is_file() for name in _FILES)


def read(root: Path, context: ReadContext) -> list[Sample]:
    """List the samples; their ids are the images' paths. A line that is invalid is an error of its image.

    Raises:
        DataError: there are two manifests, or the CSV has no valid header.
    """
    manifests = [root / name for name in _FILES if (root / name).is_file()]
    if len(manifests) != 1:
        raise DataError(f"{root}: has {len(manifests)} of {' and '.join(_FILES)}; expected one; remove the other")
    path = manifests[0]
    images = ImageFinder(root, context)
    reader = LineReader(root, lambda name: images.find(name, [root]))
    samples: dict[str, Sample] = {}
    line_numbers: dict[str, int] = {}
    for number, values in _csv_lines(path) if path.suffix == ".csv" else _json_lines(path):
        sample, faults = (None, [values]) if isinstance(values, str) else reader.read(values)
        if sample and sample.id in line_numbers:
            faults.append(f"image {sample.id} is on line {line_numbers[sample.id]} already; each image must have one line")
        elif sample:
            samples[sample.id], line_numbers[sample.id] = sample, number
        for fault in faults:
            name = sample.id if sample else f"{path.name}: line {number}"
            context.error(name, INVALID, f"{f'{path.name}: line {number}: ' if sample else ''}{fault}; fix it")
    return list(samples.values())


def _json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Numbers and values of the lines that are not empty, or what is wrong with a line."""
    for number, text in enumerate(read_text(path).split("\n"), 1):
        if not text.strip():
            continue
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            yield number, f"is not valid JSON ({one_line(error)})"
            continue
        if isinstance(values, list) and values[:1] == [UNFINISHED]:
            raise DataError(f"{path}: {UNFINISHED}, or delete the folder")
        is_object = isinstance(values, dict)
        yield number, values if is_object else f'is {shorten(text.strip(), 60)}; expected {{"image": …, "label": …}}'


def _csv_lines(path: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Like :func:`_json_lines`; empty cells are omitted, boxes are JSON inside their cell."""
    (first, header), *rows = read_csv(path) or [(1, [])]
    try:
        refuse_unknown(key.strip() for key in header)
    except ValueError as error:
        raise DataError(f"{path}: line {first}: {error}; fix the header") from error
    for number, row in rows:
        if len(row) != len(header):
            yield number, f"has {len(row)} cells, the header has {len(header)}; the numbers must be equal"
            continue
        values: dict[str, Any] = {key.strip(): cell for key, cell in zip(header, row, strict=True) if cell}
        try:
            if "boxes" in values:
                values["boxes"] = json.loads(values["boxes"])
        except (ValueError, RecursionError) as error:
            yield number, f"boxes are not valid JSON ({one_line(error)})"
            continue
        yield number, values
