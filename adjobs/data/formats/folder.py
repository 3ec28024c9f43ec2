"""Plain folders: normal images, anomalous images, and masks of the anomalous ones if there are any."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from adjobs.data.dataset import Label, Sample
from adjobs.data.reading import ReadContext
from adjobs.data.walk import (
    SPLIT_FOLDERS,
    MaskFiles,
    clean_defect_type,
    image_files,
    is_image,
    relative_stem,
    report_strays,
    subfolders,
)
from adjobs.errors import DataError, shorten

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
_LIST_SUFFIXES = frozenset({".csv", ".json", ".jsonl", ".xml", ".yaml", ".yml"})
_UNLABELLED = frozenset({"image", "images", "img", "imgs", "new", "raw", "unlabeled", "unlabelled"})


def label_of(name: str) -> Label | None:
    """What a folder's name says of the images in it; None if it says nothing.

    >>> label_of("Good"), label_of("ng"), label_of("scratch")
    ('normal', 'anomalous', None)
    """
    return _LABELS.get(name.lower())


def recognises(root: Path) -> bool:
    """Whether one of the folders is named as normal or anomalous images are."""
    return any(folder.name.lower() in _LABELS for folder in subfolders(root))


def read(root: Path, context: ReadContext) -> list[Sample]:
    """List the samples; the first folder inside ``bad`` is the defect type."""
    folders: dict[str, Path] = {}
    for folder in subfolders(root):
        if folders.setdefault(folder.name.lower(), folder) != folder:
            names = f"{folders[folder.name.lower()].name}/ and {folder.name}/"
            context.fault("", f"has both {names}, whose names mean the same; merge them into one")
    masks = MaskFiles(root, folders.get(_MASKS, root / _MASKS), context)
    samples: list[Sample] = []
    for name, folder in folders.items():
        if name in _LABELS:
            samples.extend(_sample(root, image, folder, masks) for image in image_files(folder, context))
        elif name == _MASKS:
            continue
        elif context.options.require_normal:
            report_strays(root, image_files(folder, context), DESCRIPTION, context)
        else:
            samples.extend(_new_samples(root, folder, masks, context))
    if not context.options.require_normal:
        files = sorted(path for path in root.iterdir() if path.is_file())
        samples.extend(_unlabelled(root, image) for image in files if is_image(image))
        if lists := [path.name for path in files if path.suffix.lower() in _LIST_SUFFIXES]:
            message = f"{shorten(', '.join(lists))}: not read, because no known layout has such a file; labels in it are not used"
            context.warning("", "other files", f"{message}; export it in another format if it holds labels")
    masks.report_unused("masks/<path>.png is the mask of bad/<path>, whatever the two suffixes")
    return samples


def _new_samples(root: Path, folder: Path, masks: MaskFiles, context: ReadContext) -> Iterator[Sample]:
    """Samples of a folder that is named after what its images show, or not at all.

    Raises:
        DataError: the folder is named after a split.
    """
    if folder.name.lower() in SPLIT_FOLDERS:
        raise DataError(
            f"{folder}: is named after a split; a data set chooses itself the splits of what is added; name the folder good, "
            "unlabelled or after the defect"
        )
    for image in image_files(folder, context):
        name = image.relative_to(root).as_posix()
        if folder.name.lower() in _UNLABELLED:
            yield _unlabelled(root, image)
        elif context.is_normal(folder.name):
            yield Sample(name, image, "normal")
        else:
            mask = masks.find(relative_stem(image, root))
            yield Sample(name, image, "anomalous", mask=mask, defect=clean_defect_type(folder.name))


def _unlabelled(root: Path, image: Path) -> Sample:
    return Sample(image.relative_to(root).as_posix(), image, "unlabelled")


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
