"""KolektorSDD2 (Božič, Tabernik and Skočaj 2021): published splits, and a mask beside every image, empty for normal ones."""

from __future__ import annotations

from pathlib import Path

from adjobs.data.dataset import Label, Sample
from adjobs.data.images import ImageError
from adjobs.data.labels.mask_values import decode_mask
from adjobs.data.reading import ReadContext
from adjobs.data.walk import SPLIT_FOLDERS, image_files, report_strays, subfolders
from adjobs.parallel import in_threads

NAME = "ksdd2"
DESCRIPTION = "train/ and test/ with 10000.png and its mask 10000_GT.png; anomalous if the mask has any defect pixel"

_SUFFIX = "_GT"
_COPY = " (copy)"  # the published archive holds one training image and its mask twice, the second time with this in the name


def recognises(root: Path) -> bool:
    """Whether there is a mask in ``train``."""
    return any((root / "train").glob(f"*{_SUFFIX}.png"))


def read(root: Path, context: ReadContext) -> list[Sample]:
    """List the samples. The masks are opened, since nothing else says which images are normal."""
    masks: dict[Path, Path] = {}
    for folder in subfolders(root):
        files = [path for path in image_files(folder, context) if _COPY not in path.stem]
        if folder.name in SPLIT_FOLDERS:
            masks.update(_masks_by_image(root, files, context))
        else:
            report_strays(root, files, DESCRIPTION, context)
    answers = in_threads(_read_label, list(masks.values()), text="reading masks")
    samples: list[Sample] = []
    for (image, mask), answer in zip(masks.items(), answers, strict=True):
        name = image.relative_to(root)
        label: Label = "unlabelled" if isinstance(answer, ImageError) else answer
        if isinstance(answer, ImageError):
            context.error(name.as_posix(), "mask unreadable", f"{mask.relative_to(root).as_posix()}: {answer.reason}")
        mask_of_defect = mask if label == "anomalous" else None
        samples.append(Sample(name.as_posix(), image, label, mask_of_defect, published_split=SPLIT_FOLDERS[name.parts[0]]))
    return samples


def _read_label(mask: Path) -> Label | ImageError:
    """What the mask says of its image, or why it cannot be read."""
    try:
        return "anomalous" if decode_mask(mask).defect.any() else "normal"
    except ImageError as error:
        return error


def _masks_by_image(root: Path, files: list[Path], context: ReadContext) -> dict[Path, Path]:
    """The mask of each image; what lacks its partner is a fault, and left out."""
    masks = {path.with_name(path.name.replace(_SUFFIX, "")): path for path in files if path.stem.endswith(_SUFFIX)}
    images = {path for path in files if not path.stem.endswith(_SUFFIX)}
    for path in sorted(images ^ masks.keys()):
        problem = "image has no mask" if path in images else "mask belongs to no image"
        name = (path if path in images else masks[path]).relative_to(root).as_posix()
        context.fault(name, f"{problem}; x_GT.png is the mask of x.png, empty for a normal image; add the missing file")
    return {image: mask for image, mask in masks.items() if image in images}
