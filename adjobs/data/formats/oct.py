"""Retinal OCT (Kermany et al. 2018): healthy retinas and three diseases, with the patient in the file's name."""

from __future__ import annotations

import re
from pathlib import Path

from adjobs.data.dataset import Sample
from adjobs.data.walk import SPLITS, image_files, refuse_strays, subfolders
from adjobs.errors import DataError

NAME = "oct"
DESCRIPTION = "{train,val,test}/{NORMAL,CNV,DME,DRUSEN}/<class>-<patient>-<number>.jpeg; NORMAL is normal"

_CLASSES = {"NORMAL", "CNV", "DME", "DRUSEN"}
_NAME = re.compile(r"[A-Z]+-(\d+)-\d+")


def recognises(root: Path) -> bool:
    """Whether there is ``train/NORMAL``."""
    return (root / "train" / "NORMAL").is_dir()


def read(root: Path) -> list[Sample]:
    """List the samples; a group is one patient.

    Raises:
        DataError: a name does not say whose retina it is; without that, one patient could train and test.
    """
    images = image_files(root)
    refuse_strays(root, [image for image in images if not _meant(image.relative_to(root).parts)], DESCRIPTION)
    return [_sample(root, image) for folder in subfolders(root) for image in image_files(folder)]


def _meant(parts: tuple[str, ...]) -> bool:
    return len(parts) == 3 and parts[0] in SPLITS and parts[1] in _CLASSES


def _sample(root: Path, image: Path) -> Sample:
    part, kind, _ = image.relative_to(root).parts
    name = _NAME.fullmatch(image.stem)
    if not name:
        raise DataError(
            f"{image}: the name has no patient; allowed is <class>-<patient>-<number>.jpeg as CNV-1016042-12.jpeg; rename it"
        )
    normal = kind == "NORMAL"
    return Sample(
        id=image.relative_to(root).as_posix(),
        image=image,
        label="normal" if normal else "anomalous",
        defect="" if normal else kind.lower(),
        group=name[1],
        published_split=SPLITS[part],
    )
