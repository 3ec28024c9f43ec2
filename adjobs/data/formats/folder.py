"""Plain folders: normal images, anomalous images, and masks of the anomalous ones if there are any."""

from __future__ import annotations

from pathlib import Path

from adjobs.data.dataset import Label, Sample
from adjobs.data.reading import ReadContext
from adjobs.data.walk import MaskFiles, image_files, refuse_strays, relative_stem, subfolders
from adjobs.errors import DataError

NAME = "folder"
DESCRIPTION = "good/ (or normal, ok), bad/ (or anomalous, ng, defect) with optional bad/<defect type>/, optional masks/ like bad/"

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
    """Whether one of the folders is named as normal or anomalous images are."""
    return any(folder.name.lower() in _LABELS for folder in subfolders(root))


def read(root: Path, context: ReadContext) -> list[Sample]:
    """List the samples; the first folder inside ``bad`` is the defect type."""
    folders: dict[str, Path] = {}
    for folder in subfolders(root):
        if folders.setdefault(folder.name.lower(), folder) != folder:
            names = f"{folders[folder.name.lower()].name}/ and {folder.name}/"
            raise DataError(f"{root}: has both {names}, whose names mean the same; merge them into one")
    masks = MaskFiles(root, folders.get(_MASKS, root / _MASKS), context)
    samples: list[Sample] = []
    for name, folder in folders.items():
        if name in _LABELS:
            samples.extend(_sample(root, image, folder, masks) for image in image_files(folder, context))
        elif name != _MASKS:
            refuse_strays(root, image_files(folder, context), DESCRIPTION)
    masks.refuse_unused("masks/<path>.png is the mask of bad/<path>, whatever the two suffixes")
    return samples


def _sample(root: Path, image: Path, folder: Path, masks: MaskFiles) -> Sample:
    label = _LABELS[folder.name.lower()]
    relative_names = image.relative_to(folder).parts
    is_anomalous = label == "anomalous"
    return Sample(
        id=image.relative_to(root).as_posix(),
        image=image,
        label=label,
        mask=masks.find(relative_stem(image, folder)) if is_anomalous else None,
        defect=relative_names[0] if is_anomalous and len(relative_names) > 1 else "",
    )
