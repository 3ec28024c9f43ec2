"""Magnetic tile defects (Huang, Qiu and Yuan 2020): five defect types, free tiles, a mask beside each picture."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from adjobs.data.dataset import Sample
from adjobs.data.walk import image_files
from adjobs.errors import DataError

NAME = "mtd"
DESCRIPTION = "MT_<Class>/Imgs/x.jpg with its mask x.png beside it; MT_Free is normal"

_PICTURES = {".jpg", ".jpeg"}
_SHOT = re.compile(r"exp\d+_num_(\d+)")

# Measured on the published files: one tile was photographed under six or seven exposures (exp0 to exp6), whose running
# numbers follow each other closely. Half of all neighbouring numbers differ by less than 25, a twentieth by over 1000.
# With 150 the 1344 pictures fall into 210 groups, four fifths of which hold exactly six. Joining two tiles does no
# harm; dividing one would test on what was learnt.
_GAP = 150


def recognises(root: Path) -> bool:
    """Whether there is a folder ``MT_<Class>/Imgs``."""
    return any(path.is_dir() for path in root.glob("MT_*/Imgs"))


def read(root: Path) -> list[Sample]:
    """List the samples; a group is one tile, as far as the file names tell.

    Raises:
        DataError: a mask has no picture.
    """
    files = [path for folder in sorted(root.glob("MT_*/Imgs")) for path in image_files(folder)]
    pictures = [path for path in files if path.suffix.lower() in _PICTURES]
    masks = {path.with_suffix(""): path for path in files if path.suffix.lower() not in _PICTURES}
    lonely = sorted(masks.keys() - {picture.with_suffix("") for picture in pictures})
    if lonely:
        name = masks[lonely[0]].relative_to(root).as_posix()
        raise DataError(
            f"{root}: mask {name} belongs to no image (one of {len(lonely)}); x.png is the mask of x.jpg; rename or remove it"
        )
    tiles = _tiles(picture.stem for picture in pictures)
    return [_sample(root, picture, masks.get(picture.with_suffix("")), tiles.get(picture.stem)) for picture in pictures]


def _sample(root: Path, picture: Path, mask: Path | None, tile: str | None) -> Sample:
    kind = picture.relative_to(root).parts[0].removeprefix("MT_")
    free = kind == "Free"
    return Sample(
        id=picture.relative_to(root).as_posix(),
        image=picture,
        label="normal" if free else "anomalous",
        mask=mask,
        defect="" if free else kind.lower(),
        group=tile,
    )


def _tiles(stems: Iterable[str]) -> dict[str, str]:
    """Group names of pictures whose running numbers lie close together; the group is named after its first number."""
    shots = sorted((int(match[1]), match[0]) for match in map(_SHOT.fullmatch, stems) if match)
    tiles: dict[str, str] = {}
    first = last = -_GAP - 1
    for number, name in shots:
        if number - last > _GAP:
            first = number
        tiles[name] = f"tile-{first}"
        last = number
    return tiles
