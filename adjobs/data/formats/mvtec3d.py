"""MVTec 3D-AD (Bergmann and Sattlegger 2022): one product; only the colour image of each scan is read."""

from __future__ import annotations

from pathlib import Path

from adjobs.data.dataset import Sample
from adjobs.data.reading import ReadContext
from adjobs.data.walk import SPLIT_FOLDERS, MaskFiles, image_files, relative_stem, report_strays, subfolders

NAME = "mvtec3d"
DESCRIPTION = "{train,validation,test}/<good or defect>/rgb/x.png, gt/x.png for its mask, xyz/x.tiff (not read)"

_READ, _MASKS, _SKIPPED = "rgb", "gt", "xyz"


def recognises(root: Path) -> bool:
    """Whether there is a folder ``train/good/rgb``."""
    return (root / "train" / "good" / _READ).is_dir()


def read(root: Path, context: ReadContext) -> list[Sample]:
    """List the samples; a class folder is the defect type, ``good`` is normal and has empty masks."""
    samples: list[Sample] = []
    for folder in subfolders(root):
        if folder.name in SPLIT_FOLDERS:
            for class_folder in subfolders(folder):
                samples.extend(_samples(root, class_folder, context))
        else:
            report_strays(root, image_files(folder, context), DESCRIPTION, context)
    return samples


def _samples(root: Path, folder: Path, context: ReadContext) -> list[Sample]:
    """Samples of one class in one split."""
    allowed_folders = {folder / name for name in (_READ, _MASKS, _SKIPPED)}
    report_strays(
        root, [path for path in image_files(folder, context) if not allowed_folders & set(path.parents)], DESCRIPTION, context
    )
    masks = MaskFiles(root, folder / _MASKS, context)
    is_normal = folder.name == "good"
    samples = [
        Sample(
            id=image.relative_to(root).as_posix(),
            image=image,
            label="normal" if is_normal else "anomalous",
            mask=masks.find(relative_stem(image, folder / _READ)),
            defect="" if is_normal else folder.name,
            published_split=SPLIT_FOLDERS[folder.parent.name],
        )
        for image in image_files(folder / _READ, context)
    ]
    masks.report_unused("gt/x.png is the mask of rgb/x.png")
    return samples
