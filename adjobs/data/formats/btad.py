"""BTAD (Mishra et al. 2021): one of beanTech's three products; normal images for training, normal and anomalous ones for test."""

from __future__ import annotations

from pathlib import Path

from adjobs.data.dataset import Sample
from adjobs.data.formats.mvtec import MASKS, read_split_folders
from adjobs.data.reading import ReadContext
from adjobs.data.walk import MaskFiles

NAME = "btad"
DESCRIPTION = "train/ok/, test/ok/, test/ko/x.bmp, ground_truth/ko/x.png (any image suffixes)"


def recognises(root: Path) -> bool:
    """Whether there is a folder ``train/ok``."""
    return (root / "train" / "ok").is_dir()


def read(root: Path, context: ReadContext) -> list[Sample]:
    """List the samples; a mask has the path of its test image, except for the suffix."""
    masks = MaskFiles(root, root / MASKS, context)
    samples = read_split_folders(root, DESCRIPTION, "ok", masks.find, context)
    masks.report_unused("ground_truth/ko/x.png is the mask of test/ko/x.bmp, whatever the two suffixes")
    return samples
