"""What is known of images that are predicted: the label of a data set that they are in, or of their folder's name."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from adjobs.data import formats
from adjobs.data.formats.folder import label_of
from adjobs.data.open import open_dataset
from adjobs.data.walk import SPLIT_FOLDERS
from adjobs.errors import AdjobsError
from adjobs.inference.inputs import is_remote

_MAX_FOLDERS = 200  # whose data sets are searched: many more are not a data set but an archive
_MAX_DATASETS = 20


class Truth(NamedTuple):
    """What a person decided about an image; ``defect`` is its type, "" where that is not known."""

    is_anomalous: bool
    defect: str = ""


def find_truth(sources: Sequence[str | Path], names: Sequence[str], cache: Path) -> dict[str, Truth]:
    """The labels of images by name, of those alone for which there is one.

    An image is labelled by the data set that it is in: a folder that was named, or one above it where the names of folders are
    those of classes or splits, if adjobs reads that as a data set without an error. Else the folder that it lies in says it, if
    it is called good, normal, ok, bad, anomalous, ng or defect.

    Args:
        sources: what was named.
        names: paths and ``s3://`` addresses of the images.
        cache: folder for downloads.
    """
    labelled: dict[str, Truth] = {}
    for root in _datasets(sources, names):
        labelled |= _read(root, cache)
    truth = {}
    for name in names:
        known = labelled.get(_key(name)) if labelled and not is_remote(name) else None
        if known is None and (label := label_of(PurePosixPath(name).parent.name)) is not None:
            known = Truth(label == "anomalous")
        if known is not None:
            truth[name] = known
    return truth


def _datasets(sources: Iterable[str | Path], names: Iterable[str]) -> list[Path]:
    """Folders that may be data sets with some of the images, each once."""
    named = [folder for source in sources if not is_remote(str(source)) and (folder := Path(source).absolute()).is_dir()]
    folders = list(dict.fromkeys(os.path.dirname(name) for name in names if not is_remote(name)))  # noqa: PTH120 (of many)
    above = [_top(Path(folder).absolute()) for folder in folders] if len(folders) <= _MAX_FOLDERS else []
    candidates = list(dict.fromkeys([*named, *above]))
    return [root for root in candidates[:_MAX_DATASETS] if _is_recognised(root)]


def _top(folder: Path) -> Path:
    """The folder above those that are named as classes or splits, such as ``bottle`` of ``bottle/test/scratch``."""
    levels = [folder, *folder.parents]
    start = next((level for level in levels[:2] if _is_named(level)), None)
    return folder if start is None else next(level for level in start.parents if not _is_named(level))


def _is_named(folder: Path) -> bool:
    return label_of(folder.name) is not None or folder.name.lower() in SPLIT_FOLDERS


def _is_recognised(root: Path) -> bool:
    try:
        return any(reader.recognises(root) for reader in formats.load_formats().values())
    except (AdjobsError, ImportError, OSError):  # a package that only training needs; a folder that may not be read
        return False


def _read(root: Path, cache: Path) -> Mapping[str, Truth]:
    """Labels by absolute path; none of a folder that is no data set as a whole, such as one with new images beside the others."""
    try:
        dataset = open_dataset(str(root), cache=cache)
    except (AdjobsError, ImportError, OSError):
        return {}
    return {
        _key(sample.image): Truth(sample.label == "anomalous", sample.defect)
        for sample in dataset.samples
        if sample.label != "unlabelled"
    }


def _key(path: str | Path) -> str:
    """A path as it is compared: absolute, links not followed."""
    return os.path.abspath(path)  # noqa: PTH100 (resolve follows links)
