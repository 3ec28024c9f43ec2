"""MVTec AD: one product with its published training and test images, and a mask for each anomalous image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from adjobs.data.dataset import Sample
from adjobs.data.labels.masks import Mask
from adjobs.data.reading import ReadContext
from adjobs.data.walk import SPLIT_FOLDERS, MaskFiles, image_files, relative_stem, report_strays, subfolders

NAME = "mvtec"
DESCRIPTION = "train/good/, test/good/, test/<defect>/x.png, ground_truth/<defect>/x_mask.png (or x.png)"

MASKS = "ground_truth"


def recognises(root: Path) -> bool:
    """Whether there is a folder ``train/good``, without what MVTec's later data sets add to it."""
    normal_folder = root / "train" / "good"
    return normal_folder.is_dir() and not (normal_folder / "rgb").is_dir() and not (root / "defects_config.json").is_file()


def read(root: Path, context: ReadContext) -> list[Sample]:
    """List the samples; a class folder is the defect type, ``good`` is normal. Only test images have masks."""
    masks = MaskFiles(root, root / MASKS, context)
    samples = read_split_folders(root, DESCRIPTION, "good", lambda name: masks.find(f"{name}_mask", name), context)
    masks.report_unused("ground_truth/<defect>/x_mask.png is the mask of test/<defect>/x.png")
    return samples


def read_split_folders(
    root: Path, layout: str, normal_class: str, find_mask: Callable[[str], Mask | None], context: ReadContext
) -> list[Sample]:
    """Samples of split folders with a folder for each class, beside ``ground_truth``.

    Args:
        root: the data set's folder.
        layout: description of the layout, for errors.
        normal_class: name of the folders of normal images.
        find_mask: returns the mask of a test image, given its path in ``test`` without suffix.
        context: of the reader.
    """
    samples: list[Sample] = []
    for folder in subfolders(root):
        images = image_files(folder, context)
        if folder.name in SPLIT_FOLDERS:
            report_strays(root, [image for image in images if image.parent == folder], layout, context)
            of_classes = [image for image in images if image.parent != folder]
            samples.extend(_sample(root, image, folder, normal_class, find_mask) for image in of_classes)
        elif folder.name != MASKS:
            report_strays(root, images, layout, context)
    return samples


def _sample(root: Path, image: Path, folder: Path, normal_class: str, find_mask: Callable[[str], Mask | None]) -> Sample:
    defect = image.relative_to(folder).parts[0]
    return Sample(
        id=image.relative_to(root).as_posix(),
        image=image,
        label="normal" if defect == normal_class else "anomalous",
        mask=find_mask(relative_stem(image, folder)) if folder.name == "test" else None,
        defect="" if defect == normal_class else defect,
        published_split=SPLIT_FOLDERS[folder.name],
    )
