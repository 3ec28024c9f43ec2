"""Plain folders: good images, bad images, and masks of the bad ones if somebody drew them."""

from __future__ import annotations

from pathlib import Path

from adjobs.data.dataset import Label, Sample
from adjobs.data.walk import MaskFiles, image_files, refuse_strays, stem, subfolders
from adjobs.errors import DataError

NAME = "folder"
DESCRIPTION = "good/ (or normal, ok), bad/ (or anomalous, ng, defect) with bad/<defect type>/ if known, masks/ like bad/ if drawn"

_LABELS: dict[str, Label] = {
    "good": "normal",
    "normal": "normal",
    "ok": "normal",
    "bad": "anomalous",
    "anomalous": "anomalous",
    "ng": "anomalous",
    "defect": "anomalous",
}
_MASKS = "masks"


def recognises(root: Path) -> bool:
    """Whether one of the folders carries a name of good or bad images."""
    return any(folder.name.lower() in _LABELS for folder in subfolders(root))


def read(root: Path) -> list[Sample]:
    """List the samples; the first folder inside ``bad`` is the defect type."""
    folders: dict[str, Path] = {}
    for folder in subfolders(root):
        if folders.setdefault(folder.name.lower(), folder) != folder:
            both = f"{folders[folder.name.lower()].name}/ and {folder.name}/"
            raise DataError(f"{root}: has {both}; their names mean the same; put the images of both into one")
    masks = MaskFiles(root, folders.get(_MASKS, root / _MASKS))
    samples: list[Sample] = []
    for name, folder in folders.items():
        if name in _LABELS:
            samples.extend(_sample(root, image, folder, masks) for image in image_files(folder))
        elif name != _MASKS:
            refuse_strays(root, image_files(folder), DESCRIPTION)
    masks.refuse_unused("masks/<path>.png is the mask of bad/<path>, whatever the two suffixes")
    return samples


def _sample(root: Path, image: Path, folder: Path, masks: MaskFiles) -> Sample:
    label = _LABELS[folder.name.lower()]
    inside = image.relative_to(folder).parts
    bad = label == "anomalous"
    return Sample(
        id=image.relative_to(root).as_posix(),
        image=image,
        label=label,
        mask=masks.find(stem(image, folder)) if bad else None,
        defect=inside[0] if bad and len(inside) > 1 else "",
    )
