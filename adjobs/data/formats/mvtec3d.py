"""MVTec 3D-AD (Bergmann and Sattlegger 2022): one product; of each scan only the colour image is read."""

from __future__ import annotations

from pathlib import Path

from adjobs.data.dataset import Sample
from adjobs.data.walk import SPLITS, MaskFiles, image_files, refuse_strays, stem, subfolders

NAME = "mvtec3d"
DESCRIPTION = "{train,validation,test}/<good or defect>/rgb/x.png, gt/x.png for its mask, xyz/x.tiff (not read)"

_READ, _MASKS, _SKIPPED = "rgb", "gt", "xyz"


def recognises(root: Path) -> bool:
    """Whether there is ``train/good/rgb``."""
    return (root / "train" / "good" / _READ).is_dir()


def read(root: Path) -> list[Sample]:
    """List the samples; the folder of a class is its defect type, ``good`` is normal and has empty masks."""
    samples: list[Sample] = []
    for folder in subfolders(root):
        if folder.name in SPLITS:
            for kind in subfolders(folder):
                samples.extend(_samples(root, kind))
        else:
            refuse_strays(root, image_files(folder), DESCRIPTION)
    return samples


def _samples(root: Path, folder: Path) -> list[Sample]:
    """Samples of one class in one part."""
    meant = {folder / name for name in (_READ, _MASKS, _SKIPPED)}
    refuse_strays(root, [path for path in image_files(folder) if not meant & set(path.parents)], DESCRIPTION)
    masks = MaskFiles(root, folder / _MASKS)
    good = folder.name == "good"
    samples = [
        Sample(
            id=image.relative_to(root).as_posix(),
            image=image,
            label="normal" if good else "anomalous",
            mask=masks.find(stem(image, folder / _READ)),
            defect="" if good else folder.name,
            published_split=SPLITS[folder.parent.name],
        )
        for image in image_files(folder / _READ)
    ]
    masks.refuse_unused("gt/x.png is the mask of rgb/x.png")
    return samples
