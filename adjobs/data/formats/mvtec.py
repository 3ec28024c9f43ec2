"""MVTec AD: one product, its published training and test images, and a mask for each defect."""

from __future__ import annotations

from pathlib import Path

from adjobs.data.files import MaskFiles, image_files, is_image, refuse_strays, stem, subfolders
from adjobs.data.index import Sample

NAME = "mvtec"
DESCRIPTION = "train/good/, test/good/, test/<defect>/x.png, ground_truth/<defect>/x_mask.png (or x.png)"

# Some data sets of this layout publish a validation part too, under one of these names.
_PARTS = {"train": "train", "val": "val", "validation": "val", "test": "test"}
_MASKS = "ground_truth"


def recognises(root: Path) -> bool:
    """Whether there is ``train/good``."""
    return (root / "train" / "good").is_dir()


def read(root: Path) -> list[Sample]:
    """List the samples; the folder of a class is its defect type, ``good`` is normal. Masks are those of ``test``."""
    masks = MaskFiles(root, root / _MASKS)
    samples: list[Sample] = []
    for folder in subfolders(root):
        if folder.name in _PARTS:
            refuse_strays(root, [path for path in sorted(folder.iterdir()) if path.is_file() and is_image(path)], DESCRIPTION)
            samples.extend(_sample(root, image, folder, masks) for image in image_files(folder))
        elif folder.name != _MASKS:
            refuse_strays(root, image_files(folder), DESCRIPTION)
    masks.refuse_unused("ground_truth/<defect>/x_mask.png is the mask of test/<defect>/x.png")
    return samples


def _sample(root: Path, image: Path, folder: Path, masks: MaskFiles) -> Sample:
    defect = image.relative_to(folder).parts[0]
    name = stem(image, folder)
    return Sample(
        id=image.relative_to(root).as_posix(),
        image=image,
        label="normal" if defect == "good" else "anomalous",
        mask=masks.find(f"{name}_mask", name) if folder.name == "test" else None,
        defect="" if defect == "good" else defect,
        part=_PARTS[folder.name],
    )
