"""Magnetic tile defects (Huang, Qiu and Yuan 2020): five defect types and defect-free tiles, with a mask beside each image."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from adjobs.data.dataset import Sample
from adjobs.data.reading import ReadContext
from adjobs.data.walk import image_files

NAME = "mtd"
DESCRIPTION = "MT_<Class>/Imgs/x.jpg with its mask x.png beside it; MT_Free is normal"

_IMAGE_SUFFIXES = {".jpg", ".jpeg"}
_EXPOSURE = re.compile(r"exp\d+_num_(\d+)")

# Measured on the published files: each tile was photographed under six or seven exposures (exp0 to exp6), whose running
# numbers are close to each other. Half of all neighbouring numbers differ by less than 25, a twentieth by over 1000.
# With 150, the 1344 images form 210 groups, four fifths of which hold exactly six. Merging two tiles does no harm;
# splitting one would put images of a training tile into the test split.
_GAP = 150


def recognises(root: Path) -> bool:
    """Whether there is a folder ``MT_<Class>/Imgs``."""
    return any(path.is_dir() for path in root.glob("MT_*/Imgs"))


def read(root: Path, context: ReadContext) -> list[Sample]:
    """List the samples; a group is one tile, as far as the file names show."""
    files = [path for folder in sorted(root.glob("MT_*/Imgs")) for path in image_files(folder, context)]
    images = [path for path in files if path.suffix.lower() in _IMAGE_SUFFIXES]
    masks = {path.with_suffix(""): path for path in files if path.suffix.lower() not in _IMAGE_SUFFIXES}
    for unmatched in sorted(masks.keys() - {image.with_suffix("") for image in images}):
        name = masks[unmatched].relative_to(root).as_posix()
        context.fault(name, "mask belongs to no image; x.png is the mask of x.jpg; rename or remove it")
    tiles = _group_exposures(image.stem for image in images)
    return [_sample(root, image, masks.get(image.with_suffix("")), tiles.get(image.stem)) for image in images]


def _sample(root: Path, image: Path, mask: Path | None, tile: str | None) -> Sample:
    class_name = image.relative_to(root).parts[0].removeprefix("MT_")
    is_normal = class_name == "Free"
    return Sample(
        id=image.relative_to(root).as_posix(),
        image=image,
        label="normal" if is_normal else "anomalous",
        mask=mask,
        defect="" if is_normal else class_name.lower(),
        group=tile,
    )


def _group_exposures(stems: Iterable[str]) -> dict[str, str]:
    """Group name by image name: images with close running numbers are one group, named after its first number."""
    exposures = sorted((int(match[1]), match[0]) for match in map(_EXPOSURE.fullmatch, stems) if match)
    groups: dict[str, str] = {}
    first = last = -_GAP - 1
    for number, name in exposures:
        if number - last > _GAP:
            first = number
        groups[name] = f"tile-{first}"
        last = number
    return groups
