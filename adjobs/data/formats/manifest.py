"""A list of images with all their labels, one line of CSV or JSON for each image; read and written.

Keys of a line (columns of the CSV), of which ``image`` and ``label`` are required; paths are relative to the data set's folder:

- ``image``: the file; ``label``: normal, anomalous or unlabelled; ``defect``, ``group``: any text; ``split``: train, val or test.
- ``mask``: an image. In JSON also a list of images, one for each defect, with ``kinds`` for the file that describes their
  values, or ``{"segmentations", "width", "height"}`` as COCO writes them.
- ``blocks``: a small grey image of a block grid; ``boxes``: ``[[left, top, right, bottom], …]`` in pixels.
- ``sha256``: checksum of the image; not read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

from adjobs.data.dataset import Label, Sample
from adjobs.data.labels import polygons
from adjobs.data.labels.masks import Box, Layers, Mask, Shapes
from adjobs.data.reading import ReadContext
from adjobs.data.walk import read_csv, read_text, resolve_inside
from adjobs.errors import DataError, choices, one_line

NAME = "manifest"
DESCRIPTION = (
    "manifest.jsonl or manifest.csv with image and label on each line, and mask, blocks, boxes, defect, group, split if known"
)

_FILES = ("manifest.jsonl", "manifest.csv")
_KEYS = ("image", "label", "mask", "kinds", "blocks", "boxes", "defect", "group", "split", "sha256")
_LABELS = ("normal", "anomalous", "unlabelled")
_SPLITS = ("train", "val", "test")


def recognises(root: Path) -> bool:
    """Whether there is a manifest."""
    return any((root / name).is_file() for name in _FILES)


def read(root: Path, context: ReadContext) -> list[Sample]:
    """List the samples; their ids are the images' paths.

    Raises:
        DataError: there are two manifests, or a line is invalid; names the line.
    """
    manifests = [root / name for name in _FILES if (root / name).is_file()]
    if len(manifests) != 1:
        raise DataError(f"{root}: has {len(manifests)} of {' and '.join(_FILES)}; expected one; remove the other")
    path = manifests[0]
    samples: list[Sample] = []
    line_numbers: dict[str, int] = {}
    for number, values in _csv_lines(path) if path.suffix == ".csv" else _json_lines(path):
        try:
            sample = _sample(root, values)
            _refuse_repeated(sample.id, line_numbers)
        except (ValueError, OSError) as error:  # an OSError if a name is too long
            raise DataError(f"{path}: line {number}: {one_line(error)}; fix it") from error
        line_numbers[sample.id] = number
        samples.append(sample)
    return samples


def write_line(sample: Sample, root: Path) -> dict[str, Any]:
    """The line of ``manifest.jsonl`` for a sample, to be written with ``json.dumps``; empty fields are omitted.

    Reading it in ``root`` gives an equal sample, if the id is the image's path.

    Raises:
        DataError: a file is not in ``root``.
    """
    for path in sample.files:
        if not path.is_relative_to(root):
            raise DataError(f"{path}: is not in {root}; a manifest can only name files beside it; copy them there first")

    def name(path: Path) -> str:
        return path.relative_to(root).as_posix()

    line: dict[str, Any] = {"image": name(sample.image), "label": sample.label}
    if isinstance(sample.mask, Path):
        line["mask"] = name(sample.mask)
    elif isinstance(sample.mask, Layers):
        line["mask"] = [name(path) for path in sample.mask.paths]
        line["kinds"] = name(sample.mask.kinds) if sample.mask.kinds else None
    elif sample.mask:
        line["mask"] = {**vars(sample.mask), "segmentations": [json.loads(text) for text in sample.mask.segmentations]}
    line["blocks"] = name(sample.blocks) if sample.blocks else None
    line["boxes"] = None if sample.boxes is None else [list(box) for box in sample.boxes]
    line |= {"defect": sample.defect or None, "group": sample.group, "split": sample.published_split}
    return {key: value for key, value in line.items() if value is not None}


def _json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, text in enumerate(read_text(path).split("\n"), 1):
        if not text.strip():
            continue
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}: line {number} is not valid JSON ({one_line(error)}); fix it") from error
        if not isinstance(values, dict):
            raise DataError(f'{path}: line {number} is {text.strip()[:60]}; expected {{"image": …, "label": …}}; fix it')
        yield number, values


def _csv_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Lines of the CSV; empty cells are omitted, boxes are JSON inside their cell."""
    (first, header), *rows = read_csv(path) or [(1, [])]
    try:
        _refuse_unknown(key.strip() for key in header)
    except ValueError as error:
        raise DataError(f"{path}: line {first}: {error}; fix the header") from error
    for number, row in rows:
        if len(row) != len(header):
            raise DataError(
                f"{path}: line {number} has {len(row)} cells, the header has {len(header)}; the numbers must be equal; fix it"
            )
        values: dict[str, Any] = {key.strip(): cell for key, cell in zip(header, row, strict=True) if cell}
        try:
            if "boxes" in values:
                values["boxes"] = json.loads(values["boxes"])
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}: line {number}: boxes are not valid JSON ({one_line(error)}); fix them") from error
        yield number, values


def _refuse_repeated(name: str, line_numbers: dict[str, int]) -> None:
    if name in line_numbers:
        raise ValueError(f"image {name} is on line {line_numbers[name]} already; each image must have one line")


def _sample(root: Path, values: dict[str, Any]) -> Sample:
    """The sample of a line; raises ValueError if a value is invalid."""
    _refuse_unknown(values)
    for key in ("image", "label"):
        if values.get(key) is None:
            raise ValueError(f"key {key!r} is missing; image and label are required")
    image = _file(root, values["image"], "image")
    return Sample(
        id=image.relative_to(root).as_posix(),
        image=image,
        label=cast("Label", _choice(values, "label", _LABELS)),
        mask=_mask(root, values),
        defect=_text(values, "defect") or "",
        group=_text(values, "group") or None,
        published_split=_choice(values, "split", _SPLITS),
        blocks=_file(root, values["blocks"], "blocks") if values.get("blocks") is not None else None,
        boxes=_boxes(values.get("boxes")),
    )


def _refuse_unknown(keys: Iterable[str]) -> None:
    visited: set[str] = set()
    for key in keys:
        if key not in _KEYS:
            raise ValueError(f"unknown key {key!r}; {choices(key, _KEYS)}")
        if key in visited:
            raise ValueError(f"key {key!r} is repeated; each key must occur once")
        visited.add(key)


def _mask(root: Path, values: dict[str, Any]) -> Mask | None:
    mask, kinds = values.get("mask"), values.get("kinds")
    if kinds is not None and not isinstance(mask, list):
        raise ValueError("kinds is set without a list of masks, which it describes; set both or none")
    if mask is None:
        return None
    if isinstance(mask, list) and mask:
        return Layers(tuple(_file(root, name, "mask") for name in mask), _file(root, kinds, "kinds") if kinds else None)
    if isinstance(mask, dict):
        return _shapes(mask)
    return _file(root, mask, "mask")


def _shapes(values: dict[str, Any]) -> Shapes:
    segmentations, width, height = (values.get(key) for key in ("segmentations", "width", "height"))
    has_size = type(width) is int and type(height) is int and width > 0 and height > 0
    if len(values) != 3 or not isinstance(segmentations, list) or not has_size:
        raise ValueError('mask is an object; expected {"segmentations": […], "width": 640, "height": 480} and no other keys')
    for segmentation in segmentations:
        polygons.check(segmentation, cast("int", width), cast("int", height))
    return Shapes(tuple(map(json.dumps, segmentations)), cast("int", width), cast("int", height))


def _boxes(value: Any) -> tuple[Box, ...] | None:
    if value is None:
        return None
    return tuple(_box(box) for box in (value if isinstance(value, list) else [value]))


def _box(value: Any) -> Box:
    if not polygons.are_coordinates(value) or len(value) != 4 or not (value[0] < value[2] and value[1] < value[3]):
        raise ValueError(
            f"boxes contains {json.dumps(value)[:60]}; expected [left, top, right, bottom] in pixels, left < right, top < bottom"
        )
    return Box(*value)


def _file(root: Path, name: Any, key: str) -> Path:
    path = resolve_inside(root, name) if isinstance(name, str) else None
    if path is None or not path.is_file():
        raise ValueError(f"{key} {json.dumps(name)[:80]} does not exist; expected the path of a file beside the manifest")
    return path


def _text(values: dict[str, Any], key: str) -> str | None:
    value = values.get(key)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{key} is {json.dumps(value)[:60]}; it must be text")
    return value


def _choice(values: dict[str, Any], key: str, allowed: tuple[str, ...]) -> str | None:
    value = _text(values, key)
    if value is not None and value not in allowed:
        raise ValueError(f"{key} is {value!r}; {choices(value, allowed)}")
    return value
