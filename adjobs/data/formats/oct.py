"""Retinal OCT (Kermany et al. 2018): healthy retinas and three diseases; file names contain the patient's number."""

from __future__ import annotations

import re
from pathlib import Path

from adjobs.data.dataset import Sample
from adjobs.data.reading import ReadContext
from adjobs.data.walk import SPLIT_FOLDERS, image_files, report_strays

NAME = "oct"
DESCRIPTION = "{train,val,test}/{NORMAL,CNV,DME,DRUSEN}/<class>-<patient>-<number>.jpeg; NORMAL is normal"

_CLASSES = {"NORMAL", "CNV", "DME", "DRUSEN"}
_NAME = re.compile(r"[A-Z]+-(\d+)-\d+")


def recognises(root: Path) -> bool:
    """Whether there is a folder ``train/NORMAL``."""
    return (root / "train" / "NORMAL").is_dir()


def read(root: Path, context: ReadContext) -> list[Sample]:
    """List the samples; a group is one patient, whose number is in the file name: none may be in both training and test."""
    images = image_files(root, context)
    fitting = [image for image in images if _fits_layout(image.relative_to(root))]
    report_strays(root, sorted(set(images) - set(fitting)), DESCRIPTION, context)
    return [_sample(root, image, context) for image in fitting]


def _fits_layout(path: Path) -> bool:
    return len(path.parts) == 3 and path.parts[0] in SPLIT_FOLDERS and path.parts[1] in _CLASSES


def _sample(root: Path, image: Path, context: ReadContext) -> Sample:
    split_folder, class_name, _ = image.relative_to(root).parts
    match = _NAME.fullmatch(image.stem)
    if not match:
        context.fault(
            image.relative_to(root).as_posix(),
            "its name has no patient number; expected <class>-<patient>-<number>.jpeg, such as CNV-1016042-12.jpeg; rename it",
        )
    is_normal = class_name == "NORMAL"
    return Sample(
        id=image.relative_to(root).as_posix(),
        image=image,
        label="normal" if is_normal else "anomalous",
        defect="" if is_normal else class_name.lower(),
        group=match[1] if match else None,
        published_split=SPLIT_FOLDERS[split_folder],
    )
