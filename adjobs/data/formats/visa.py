"""VisA (Zou et al. 2022) as it is published: one product, with the list of its one-class split beside it.

Its authors' script rearranges it into the layout of MVTec AD, which :mod:`adjobs.data.formats.mvtec` reads.
"""

from __future__ import annotations

from pathlib import Path

from adjobs.data.dataset import Label, Sample
from adjobs.data.walk import MaskFiles, image_files, read_rows, refuse_strays, stem, type_name
from adjobs.errors import DataError

NAME = "visa"
DESCRIPTION = "Data/Images/{Normal,Anomaly}/x.JPG, Data/Masks/Anomaly/x.png, parts from ../split_csv/1cls.csv if it is there"

_IMAGES, _MASKS = Path("Data", "Images"), Path("Data", "Masks")
_LABELS: dict[str, Label] = {"Normal": "normal", "Anomaly": "anomalous"}
_SPLIT = Path("split_csv", "1cls.csv")
_COLUMNS = ["object", "split", "label", "image", "mask"]
_TYPES = "image_anno.csv"


def recognises(root: Path) -> bool:
    """Whether there is ``Data/Images/Normal``."""
    return (root / _IMAGES / "Normal").is_dir()


def read(root: Path) -> list[Sample]:
    """List the samples; defect types are those of ``image_anno.csv``. Masks hold class numbers, not 255.

    Raises:
        DataError: the split names no image of this product, or one that is not there.
    """
    masks = MaskFiles(root, root / _MASKS)
    types = _types(root)
    images = image_files(root / _IMAGES)
    refuse_strays(root, [path for path in images if path.parent.name not in _LABELS], DESCRIPTION)
    names = [image.relative_to(root).as_posix() for image in images]
    parts = _parts(root, set(names))
    samples = [_sample(root, image, name, masks, types, parts) for image, name in zip(images, names, strict=True)]
    masks.refuse_unused("Data/Masks/Anomaly/x.png is the mask of Data/Images/Anomaly/x.JPG")
    return samples


def _sample(root: Path, image: Path, name: str, masks: MaskFiles, types: dict[str, str], parts: dict[str, str]) -> Sample:
    label = _LABELS[image.parent.name]
    bad = label == "anomalous"
    return Sample(
        id=name,
        image=image,
        label=label,
        mask=masks.find(stem(image, root / _IMAGES)) if bad else None,
        defect=types.get(name, "") if bad else "",
        published_split=parts.get(name),
    )


def _parts(root: Path, names: set[str]) -> dict[str, str]:
    """Published part by sample id; empty where there is no list."""
    path = root.parent / _SPLIT
    if not path.is_file():
        return {}
    parts: dict[str, str] = {}
    for number, row in read_rows(path):
        if row == _COLUMNS:
            continue
        if len(row) != len(_COLUMNS) or row[1] not in ("train", "test"):
            raise DataError(f"{path}: line {number} is {','.join(row)[:80]!r}; allowed is {','.join(_COLUMNS)}; restore the file")
        if row[0] != root.name:
            continue
        name = row[3].partition("/")[2]
        if name not in names:
            raise DataError(f"{path}: line {number} names {row[3]}, which is not there; the split needs all images; restore it")
        parts[name] = row[1]
    if not parts:
        raise DataError(
            f"{path}: has no line for object {root.name}; the folder must have its published name; rename it or remove the list"
        )
    return parts


def _types(root: Path) -> dict[str, str]:
    """Defect type by sample id; several types of one image, between commas in the list, are joined by +."""
    path = root / _TYPES
    if not path.is_file():
        return {}
    types: dict[str, str] = {}
    for number, row in read_rows(path):
        if len(row) < 2:
            raise DataError(f"{path}: line {number} is {row[0][:80]!r}; allowed is image,label,mask; restore the file")
        types[row[0].partition("/")[2]] = "+".join(type_name(part) for part in row[1].split(","))
    return types
