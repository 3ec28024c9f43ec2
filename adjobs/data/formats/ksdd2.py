"""KolektorSDD2 (Božič, Tabernik and Skočaj 2021): a published split, a mask beside every image, empty on good ones."""

from __future__ import annotations

from pathlib import Path

from adjobs.data.dataset import Sample
from adjobs.data.images import decode_mask
from adjobs.data.walk import SPLITS, image_files, refuse_strays, subfolders
from adjobs.errors import DataError
from adjobs.parallel import in_threads

NAME = "ksdd2"
DESCRIPTION = "train/ and test/ with 10000.png and its mask 10000_GT.png; anomalous where the mask marks any pixel"

_SUFFIX = "_GT"
_COPY = " (copy)"  # the published archive holds one training image and its mask twice, the second time with this in the name


def recognises(root: Path) -> bool:
    """Whether a mask lies in ``train``."""
    return any((root / "train").glob(f"*{_SUFFIX}.png"))


def read(root: Path) -> list[Sample]:
    """List the samples. The masks are opened, since nothing else says which images are good.

    Raises:
        DataError: an image has no mask, a mask no image, or a mask cannot be read.
    """
    images: dict[Path, Path] = {}
    for folder in subfolders(root):
        files = [path for path in image_files(folder) if _COPY not in path.stem]
        refuse_strays(root, files if folder.name not in SPLITS else [], DESCRIPTION)
        images.update(_pairs(root, files))
    marked = in_threads(lambda mask: bool(decode_mask(mask).any()), list(images.values()), text="reading masks")
    return [
        Sample(
            id=image.relative_to(root).as_posix(),
            image=image,
            label="anomalous" if anomalous else "normal",
            mask=mask if anomalous else None,
            published_split=SPLITS[image.relative_to(root).parts[0]],
        )
        for (image, mask), anomalous in zip(images.items(), marked, strict=True)
    ]


def _pairs(root: Path, files: list[Path]) -> dict[Path, Path]:
    """Masks by image."""
    masks = {path.with_name(path.name.replace(_SUFFIX, "")): path for path in files if path.stem.endswith(_SUFFIX)}
    images = {path for path in files if not path.stem.endswith(_SUFFIX)}
    for path in sorted(images ^ masks.keys()):
        got = "image has no mask" if path in images else "mask belongs to no image"
        name = (path if path in images else masks[path]).relative_to(root).as_posix()
        raise DataError(f"{root}: {name}: {got}; x_GT.png is the mask of x.png, empty for a good image; add what is missing")
    return masks
