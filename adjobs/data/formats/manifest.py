"""A list of images with all that is known of each: one line of CSV or JSON for an image, read and written.

Keys of a line (columns of the CSV), of which ``image`` and ``label`` are required; paths are relative to the data set's folder:

- ``image``: the file; ``label``: normal, anomalous or unlabelled; ``defect``, ``group``: any text; ``part``: train, val or test.
- ``mask``: an image. In JSON also a list of images, one for each defect, with ``kinds`` for the file that explains their
  values, or ``{"segmentations", "width", "height"}`` as COCO writes them.
- ``blocks``: a small grey image of a block grid; ``boxes``: ``[[left, top, right, bottom], …]`` in pixels.
- ``sha256`` of the image, for those who move it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

from adjobs.data.dataset import Label, Sample
from adjobs.data.labels import polygons
from adjobs.data.labels.masks import Box, Layers, Mask, Shapes
from adjobs.data.walk import inside, read_rows, read_text
from adjobs.errors import DataError, choices, one_line

NAME = "manifest"
DESCRIPTION = (
    "manifest.jsonl or manifest.csv with image and label on each line, and mask, blocks, boxes, defect, group, part if known"
)

_FILES = ("manifest.jsonl", "manifest.csv")
_KEYS = ("image", "label", "mask", "kinds", "blocks", "boxes", "defect", "group", "part", "sha256")
_LABELS = ("normal", "anomalous", "unlabelled")
_PARTS = ("train", "val", "test")


def recognises(root: Path) -> bool:
    """Whether there is a manifest."""
    return any((root / name).is_file() for name in _FILES)


def read(root: Path) -> list[Sample]:
    """List the samples; their ids are the images' paths.

    Raises:
        DataError: there are two manifests, or a line is wrong; names the line.
    """
    found = [root / name for name in _FILES if (root / name).is_file()]
    if len(found) != 1:
        raise DataError(f"{root}: has {len(found)} of {' and '.join(_FILES)}; allowed is one; remove the other")
    path = found[0]
    samples: list[Sample] = []
    lines: dict[str, int] = {}
    for number, values in _csv_lines(path) if path.suffix == ".csv" else _json_lines(path):
        try:
            sample = _sample(root, values)
            _refuse_again(sample.id, lines)
        except (ValueError, OSError) as error:  # an OSError where a name is too long
            raise DataError(f"{path}: line {number}: {one_line(error)}; correct it") from error
        lines[sample.id] = number
        samples.append(sample)
    return samples


def write_line(sample: Sample, root: Path) -> dict[str, Any]:
    """What a line of ``manifest.jsonl`` holds for a sample, to be written with ``json.dumps``; empty fields are left out.

    Reading it in ``root`` gives an equal sample, if the id is the image's path.

    Raises:
        DataError: a file is not in ``root``.
    """
    for path in sample.files:
        if not path.is_relative_to(root):
            raise DataError(f"{path}: is not in {root}; a manifest names files beside it; copy them there first")

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
    line |= {"defect": sample.defect or None, "group": sample.group, "part": sample.published_split}
    return {key: value for key, value in line.items() if value is not None}


def _json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, text in enumerate(read_text(path).split("\n"), 1):
        if not text.strip():
            continue
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}: line {number} is no JSON ({one_line(error)}); correct it") from error
        if not isinstance(values, dict):
            raise DataError(f'{path}: line {number} is {text.strip()[:60]}; allowed is {{"image": …, "label": …}}; correct it')
        yield number, values


def _csv_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Lines of the CSV; cells that are empty are absent, boxes are JSON inside their cell."""
    (first, header), *rows = read_rows(path) or [(1, [])]
    try:
        _refuse_unknown(key.strip() for key in header)
    except ValueError as error:
        raise DataError(f"{path}: line {first}: {error}; correct the header") from error
    for number, row in rows:
        if len(row) != len(header):
            raise DataError(f"{path}: line {number} has {len(row)} cells, the header {len(header)}; both must agree; correct it")
        values: dict[str, Any] = {key.strip(): cell for key, cell in zip(header, row, strict=True) if cell}
        try:
            if "boxes" in values:
                values["boxes"] = json.loads(values["boxes"])
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}: line {number}: boxes are no JSON ({one_line(error)}); correct them") from error
        yield number, values


def _refuse_again(name: str, lines: dict[str, int]) -> None:
    if name in lines:
        raise ValueError(f"image {name} is on line {lines[name]} already; allowed is one line for an image")


def _sample(root: Path, values: dict[str, Any]) -> Sample:
    """Raises ValueError with what is wrong."""
    _refuse_unknown(values)
    for key in ("image", "label"):
        if values.get(key) is None:
            raise ValueError(f"key {key!r} is missing; image and label are needed")
    image = _file(root, values["image"], "image")
    return Sample(
        id=image.relative_to(root).as_posix(),
        image=image,
        label=cast("Label", _one_of(values, "label", _LABELS)),
        mask=_mask(root, values),
        defect=_text(values, "defect") or "",
        group=_text(values, "group") or None,
        published_split=_one_of(values, "part", _PARTS),
        blocks=_file(root, values["blocks"], "blocks") if values.get("blocks") is not None else None,
        boxes=_boxes(values.get("boxes")),
    )


def _refuse_unknown(keys: Iterable[str]) -> None:
    known: set[str] = set()
    for key in keys:
        if key not in _KEYS:
            raise ValueError(f"key {key!r} is unknown; {choices(key, _KEYS)}")
        if key in known:
            raise ValueError(f"key {key!r} is there twice; allowed is once")
        known.add(key)


def _mask(root: Path, values: dict[str, Any]) -> Mask | None:
    given, kinds = values.get("mask"), values.get("kinds")
    if kinds is not None and not isinstance(given, list):
        raise ValueError("kinds is given without a list of masks, which it would explain; allowed are both or none")
    if given is None:
        return None
    if isinstance(given, list) and given:
        return Layers(tuple(_file(root, name, "mask") for name in given), _file(root, kinds, "kinds") if kinds else None)
    if isinstance(given, dict):
        return _shapes(given)
    return _file(root, given, "mask")


def _shapes(given: dict[str, Any]) -> Shapes:
    segmentations, width, height = (given.get(key) for key in ("segmentations", "width", "height"))
    sizes = type(width) is int and type(height) is int and width > 0 and height > 0
    if len(given) != 3 or not isinstance(segmentations, list) or not sizes:
        raise ValueError('mask is an object; allowed are {"segmentations": […], "width": 640, "height": 480} and nothing else')
    for segmentation in segmentations:
        polygons.check(segmentation, cast("int", width), cast("int", height))
    return Shapes(tuple(map(json.dumps, segmentations)), cast("int", width), cast("int", height))


def _boxes(given: Any) -> tuple[Box, ...] | None:
    if given is None:
        return None
    return tuple(_box(box) for box in (given if isinstance(given, list) else [given]))


def _box(given: Any) -> Box:
    if not polygons.are_coordinates(given) or len(given) != 4 or not (given[0] < given[2] and given[1] < given[3]):
        need = "allowed is a list of [left, top, right, bottom] in pixels, left < right, top < bottom"
        raise ValueError(f"boxes has {json.dumps(given)[:60]}; {need}")
    return Box(*given)


def _file(root: Path, name: Any, key: str) -> Path:
    path = inside(root, name) if isinstance(name, str) else None
    if path is None or not path.is_file():
        raise ValueError(f"{key} {json.dumps(name)[:80]} is not there; allowed is the path of a file beside the manifest")
    return path


def _text(values: dict[str, Any], key: str) -> str | None:
    value = values.get(key)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{key} is {json.dumps(value)[:60]}; allowed is text")
    return value


def _one_of(values: dict[str, Any], key: str, allowed: tuple[str, ...]) -> str | None:
    value = _text(values, key)
    if value is not None and value not in allowed:
        raise ValueError(f"{key} is {value!r}; {choices(value, allowed)}")
    return value
