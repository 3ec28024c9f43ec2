"""MVTec LOCO AD (Bergmann et al. 2022): logical and structural anomalies, with one mask for each defect of an image."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import BaseModel, Field, RootModel

from adjobs.data.dataset import Sample
from adjobs.data.formats.mvtec import MASKS, read_split_folders
from adjobs.data.images import ImageError, decode
from adjobs.data.labels.masks import Layers
from adjobs.data.reading import ReadContext
from adjobs.data.walk import image_files, read_json, relative_stem, report_strays, validate
from adjobs.errors import DataError

NAME = "loco"
DESCRIPTION = "train/good/, validation/good/, test/<type>/x.png, ground_truth/<type>/x/000.png and further, defects_config.json"

_KINDS = "defects_config.json"


class Defect(NamedTuple):
    """One defect of an image.

    Attributes:
        pixels: ``(H, W)`` bool.
        saturation: number of its pixels, 1 or more, from which it counts as fully detected.
    """

    pixels: np.ndarray
    saturation: int


class _Kind(BaseModel):
    pixel_value: Annotated[int, Field(ge=1, le=255)]
    saturation_threshold: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    relative_saturation: bool


class _Kinds(RootModel[list[_Kind]]):
    pass


def recognises(root: Path) -> bool:
    """Whether there are a folder ``train/good`` and the list of defect kinds."""
    return (root / "train" / "good").is_dir() and (root / _KINDS).is_file()


def read(root: Path, context: ReadContext) -> list[Sample]:
    """List the samples; a mask is a folder with the name of its image."""
    layers: dict[str, list[Path]] = defaultdict(list)
    for path in image_files(root / MASKS, context):
        layers[path.parent.relative_to(root / MASKS).as_posix()].append(path)
    masks = {name: Layers(tuple(paths), root / _KINDS) for name, paths in layers.items()}
    samples = read_split_folders(root, DESCRIPTION, "good", masks.get, context)
    used = {relative_stem(sample.image, root / "test") for sample in samples if sample.mask}
    unmatched = [path for name in sorted(masks.keys() - used) for path in masks[name].paths]
    report_strays(root, unmatched, "ground_truth/<type>/x/ as masks of test/<type>/x.png", context)
    return samples


def read_defects(mask: Layers) -> list[Defect]:
    """Decode the layers of a mask and the saturation area of each, as LOCO's evaluation code does.

    A layer is one defect, even if it is in several pieces, and its grey value is the kind of the defect. The saturation
    area is the kind's threshold if that is absolute, but at most the defect's area; a relative threshold is a share of the
    defect's area, rounded down.

    Raises:
        DataError: the list of kinds is missing or invalid, or it lacks a value.
        ImageError: a layer is unreadable, or has not exactly one value besides 0.
    """
    if mask.kinds is None:
        raise DataError(f"{mask.paths[0].parent}: has no list of defect kinds; saturation areas need one; add {_KINDS}")
    kinds = {kind.pixel_value: kind for kind in validate(_Kinds, read_json(mask.kinds), mask.kinds).root}
    return [_read_defect(path, kinds, mask.kinds) for path in mask.paths]


def _read_defect(path: Path, kinds: dict[int, _Kind], source: Path) -> Defect:
    image = decode(path)
    values = [value for value, count in enumerate(image.histogram()) if value and count]
    if image.mode != "L" or len(values) != 1:
        problem = f"has {len(values)} values besides 0" if image.mode == "L" else "has colours"
        raise ImageError(str(path), "mask value", f"{problem}; expected one grey value, the kind of the defect; export it again")
    if values[0] not in kinds:
        available = ", ".join(map(str, sorted(kinds)))
        raise DataError(
            f"{path}: value {values[0]} is not a defect kind of {source}; available: {available}; add it there or fix the mask"
        )
    pixels = np.asarray(image) > 0
    kind, area = kinds[values[0]], int(pixels.sum())
    threshold = kind.saturation_threshold * (area if kind.relative_saturation else 1)
    # For a very small defect, rounding down may give 0, and the evaluation code would divide by it.
    return Defect(pixels, max(1, min(int(threshold), area)))
