"""MVTec AD: one product, its published training and test images, and a mask for each defect."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from adjobs.data.dataset import Sample
from adjobs.data.labels.masks import Mask
from adjobs.data.walk import SPLITS, MaskFiles, image_files, is_image, refuse_strays, stem, subfolders

NAME = "mvtec"
DESCRIPTION = "train/good/, test/good/, test/<defect>/x.png, ground_truth/<defect>/x_mask.png (or x.png)"

MASKS = "ground_truth"


def recognises(root: Path) -> bool:
    """Whether there is ``train/good``, and not what MVTec's later data sets add to it."""
    good = root / "train" / "good"
    return good.is_dir() and not (good / "rgb").is_dir() and not (root / "defects_config.json").is_file()


def read(root: Path) -> list[Sample]:
    """List the samples; the folder of a class is its defect type, ``good`` is normal. Masks are those of ``test``."""
    masks = MaskFiles(root, root / MASKS)
    samples = read_parts(root, DESCRIPTION, "good", lambda name: masks.find(f"{name}_mask", name))
    masks.refuse_unused("ground_truth/<defect>/x_mask.png is the mask of test/<defect>/x.png")
    return samples


def read_parts(root: Path, layout: str, good: str, mask_of: Callable[[str], Mask | None]) -> list[Sample]:
    """Samples of part folders with a folder for each class, beside ``ground_truth``.

    Args:
        root: the data set.
        layout: description for errors.
        good: name of the folders of normal images.
        mask_of: gives the mask of a test image by its path in ``test`` without suffix.
    """
    samples: list[Sample] = []
    for folder in subfolders(root):
        if folder.name in SPLITS:
            refuse_strays(root, [path for path in sorted(folder.iterdir()) if path.is_file() and is_image(path)], layout)
            samples.extend(_sample(root, image, folder, good, mask_of) for image in image_files(folder))
        elif folder.name != MASKS:
            refuse_strays(root, image_files(folder), layout)
    return samples


def _sample(root: Path, image: Path, folder: Path, good: str, mask_of: Callable[[str], Mask | None]) -> Sample:
    defect = image.relative_to(folder).parts[0]
    return Sample(
        id=image.relative_to(root).as_posix(),
        image=image,
        label="normal" if defect == good else "anomalous",
        mask=mask_of(stem(image, folder)) if folder.name == "test" else None,
        defect="" if defect == good else defect,
        published_split=SPLITS[folder.name],
    )
