"""The lines of a manifest: one sample with all its labels, read and written.

Their keys are explained in :mod:`adjobs.data.formats.manifest`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar, cast

from adjobs.data.dataset import Label, Sample
from adjobs.data.labels import polygons
from adjobs.data.labels.masks import Box, Layers, Mask, Shapes
from adjobs.errors import DataError, choices, one_line, shown

_KEYS = ("image", "label", "mask", "kinds", "blocks", "boxes", "defect", "group", "split", "sha256")
_REQUIRED = ("image", "label")
_LABELS = ("normal", "anomalous", "unlabelled")
_SPLITS = ("train", "val", "test")
Value = TypeVar("Value")


class LineReader:
    """Reads lines, with all that is wrong with each.

    Args:
        root: the data set's folder.
        find: the file in it that a name stands for; None if there is none. Raises ValueError if the name is not allowed.
    """

    def __init__(self, root: Path, find: Callable[[str], Path | None]) -> None:
        self._root, self._find = root, find

    def read(self, values: dict[str, Any]) -> tuple[Sample | None, list[str]]:
        """The sample of a line, as far as it can be read, and what is wrong with it; None if its image is not known."""
        faults: list[str] = []

        def attempt(read: Callable[[], Value]) -> Value | None:
            try:
                return read()
            except (ValueError, OSError, RecursionError) as error:  # an OSError if a name is too long
                faults.append(one_line(error))
                return None

        attempt(lambda: refuse_unknown(values))
        faults += [f"key {key!r} is missing; image and label are required" for key in _REQUIRED if values.get(key) is None]
        image = attempt(lambda: self._file(values, "image"))
        sample = Sample(
            id=image.relative_to(self._root).as_posix() if image else "",
            image=image or self._root,
            label=attempt(lambda: cast("Label", _choice(values, "label", _LABELS) or "unlabelled")) or "unlabelled",
            mask=attempt(lambda: self._mask(values)),
            defect=attempt(lambda: _text(values, "defect") or "") or "",
            group=attempt(lambda: _text(values, "group")) or None,
            published_split=attempt(lambda: _choice(values, "split", _SPLITS)),
            blocks=attempt(lambda: self._file(values, "blocks")),
            boxes=attempt(lambda: _boxes(values.get("boxes"))),
        )
        return sample if image else None, faults

    def _mask(self, values: dict[str, Any]) -> Mask | None:
        mask, kinds = values.get("mask"), values.get("kinds")
        if kinds is not None and not isinstance(mask, list):
            raise ValueError("kinds is set without a list of masks, which it describes; set both or none")
        if isinstance(mask, list) and mask:
            paths = tuple(self._existing(name, "mask") for name in mask)
            return Layers(paths, self._existing(kinds, "kinds") if kinds else None)
        return _shapes(mask) if isinstance(mask, dict) else self._file(values, "mask")

    def _file(self, values: dict[str, Any], key: str) -> Path | None:
        return None if values.get(key) is None else self._existing(values[key], key)

    def _existing(self, name: Any, key: str) -> Path:
        path = self._find(name) if isinstance(name, str) else None
        if path is None:
            raise ValueError(f"{key} {json.dumps(name)[:80]} does not exist; expected the path of a file beside the manifest")
        return path


def refuse_unknown(keys: Iterable[str]) -> None:
    """Raise ValueError if a key is unknown or repeated."""
    visited: set[str] = set()
    for key in keys:
        if key not in _KEYS:
            raise ValueError(f"unknown key {shown(key)}; {choices(key, _KEYS)}")
        if key in visited:
            raise ValueError(f"key {shown(key)} is repeated; each key must occur once")
        visited.add(key)


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


def _text(values: dict[str, Any], key: str) -> str | None:
    value = values.get(key)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{key} is {json.dumps(value)[:60]}; it must be text")
    return value


def _choice(values: dict[str, Any], key: str, allowed: tuple[str, ...]) -> str | None:
    value = _text(values, key)
    if value is not None and value not in allowed:
        raise ValueError(f"{key} is {shown(value)}; {choices(value, allowed)}")
    return value


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
