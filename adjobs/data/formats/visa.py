"""VisA (Zou et al. 2022) as it is published: one product, with the list of its one-class split beside it.

Its authors' script rearranges it into the layout of MVTec AD, which :mod:`adjobs.data.formats.mvtec` reads.
"""

from __future__ import annotations

from pathlib import Path

from adjobs.data.dataset import Label, Sample
from adjobs.data.reading import ReadContext
from adjobs.data.walk import MaskFiles, clean_defect_type, image_files, read_csv, relative_stem, report_strays
from adjobs.errors import DataError

NAME = "visa"
DESCRIPTION = "Data/Images/{Normal,Anomaly}/x.JPG, Data/Masks/Anomaly/x.png, optional split list ../split_csv/1cls.csv"

_IMAGES, _MASKS = Path("Data", "Images"), Path("Data", "Masks")
_LABELS: dict[str, Label] = {"Normal": "normal", "Anomaly": "anomalous"}
_SPLIT_LIST = Path("split_csv", "1cls.csv")
_COLUMNS = ["object", "split", "label", "image", "mask"]
_TYPE_LIST = "image_anno.csv"


def recognises(root: Path) -> bool:
    """Whether there is a folder ``Data/Images/Normal``."""
    return (root / _IMAGES / "Normal").is_dir()


def read(root: Path, context: ReadContext) -> list[Sample]:
    """List the samples; defect types are those of ``image_anno.csv``. Masks hold class numbers, not 255.

    Raises:
        DataError: the split list has no image of this product.
    """
    masks = MaskFiles(root, root / _MASKS, context)
    defects = _read_defect_types(root, context)
    files = image_files(root / _IMAGES, context)
    images = [path for path in files if path.parent.name in _LABELS]
    report_strays(root, [path for path in files if path.parent.name not in _LABELS], DESCRIPTION, context)
    ids = [image.relative_to(root).as_posix() for image in images]
    splits = _read_splits(root, set(ids), context)
    samples = [_sample(root, image, name, masks, defects, splits) for image, name in zip(images, ids, strict=True)]
    masks.report_unused("Data/Masks/Anomaly/x.png is the mask of Data/Images/Anomaly/x.JPG")
    return samples


def _sample(root: Path, image: Path, name: str, masks: MaskFiles, defects: dict[str, str], splits: dict[str, str]) -> Sample:
    label = _LABELS[image.parent.name]
    is_anomalous = label == "anomalous"
    return Sample(
        id=name,
        image=image,
        label=label,
        mask=masks.find(relative_stem(image, root / _IMAGES)) if is_anomalous else None,
        defect=defects.get(name, "") if is_anomalous else "",
        published_split=splits.get(name),
    )


def _read_splits(root: Path, ids: set[str], context: ReadContext) -> dict[str, str]:
    """Published split by sample id; empty without a split list."""
    path = root.parent / _SPLIT_LIST
    if not path.is_file():
        return {}
    splits: dict[str, str] = {}
    list_name = f"../{_SPLIT_LIST.as_posix()}"
    for number, row in read_csv(path):
        if row == _COLUMNS:
            continue
        if len(row) != len(_COLUMNS) or row[1] not in ("train", "test"):
            context.fault(list_name, f"line {number} is {','.join(row)[:80]!r}; expected {','.join(_COLUMNS)}; restore the file")
            continue
        if row[0] != root.name:
            continue
        name = row[3].partition("/")[2]
        if name not in ids:
            context.fault(
                list_name, f"line {number} names {row[3]}, which does not exist; the split needs every image; restore the image"
            )
            continue
        splits[name] = row[1]
    if not splits and not context.faults:
        raise DataError(
            f"{path}: has no line for object {root.name}; the folder must have its published name; "
            "rename the folder or remove the list"
        )
    return splits


def _read_defect_types(root: Path, context: ReadContext) -> dict[str, str]:
    """Defect type by sample id; several types of one image, separated by commas in the list, are joined by +."""
    path = root / _TYPE_LIST
    if not path.is_file():
        return {}
    defects: dict[str, str] = {}
    for number, row in read_csv(path):
        if len(row) < 2:
            context.fault(_TYPE_LIST, f"line {number} is {row[0][:80]!r}; expected image,label,mask; restore the file")
            continue
        defects[row[0].partition("/")[2]] = "+".join(clean_defect_type(name) for name in row[1].split(","))
    return defects
