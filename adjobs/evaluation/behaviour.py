"""Small changes of an image that must not change a decision: how many decisions do they change?

A camera that is mounted again, a lamp that ages and a stored image all change pixels, not the part. The model is not imported: a
function that decides on images is passed in.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from adjobs.errors import DataError

Pixels = NDArray[np.uint8]
Decide = Callable[[Sequence[Pixels]], Sequence[bool] | NDArray[np.bool_]]
"""Images ``(H, W)`` or ``(H, W, 3)`` uint8 in, one decision for each out, True for an alarm."""

JPEG_QUALITY = 90
BRIGHTNESS = 0.05  # share by which it rises and falls
SHIFT = 2  # pixels


class ChangedDecisions(NamedTuple):
    """Of ``total`` images, those whose decision a behaviour changed."""

    behaviour: str
    changed: int
    total: int


def flip(image: Pixels) -> Pixels:
    """Left and right exchanged."""
    return np.ascontiguousarray(image[:, ::-1])


def scale_brightness(image: Pixels, factor: float) -> Pixels:
    """Pixel values times ``factor``, rounded, at most 255."""
    values = np.minimum(np.round(np.arange(256) * factor), 255).astype(np.uint8)
    scaled: Pixels = values[image]
    return scaled


def brighter(image: Pixels) -> Pixels:
    """5 % brighter."""
    return scale_brightness(image, 1 + BRIGHTNESS)


def darker(image: Pixels) -> Pixels:
    """5 % darker."""
    return scale_brightness(image, 1 - BRIGHTNESS)


def compress(image: Pixels) -> Pixels:
    """Stored as JPEG of quality 90 and read again; grey images stay grey."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=JPEG_QUALITY)
    with Image.open(buffer) as stored:
        return np.array(stored)


def shift(image: Pixels) -> Pixels:
    """Moved 2 pixels to the right and down; the edge is repeated."""
    height, width = image.shape[:2]
    rows, columns = (np.maximum(np.arange(length) - SHIFT, 0) for length in (height, width))
    moved: Pixels = image[rows][:, columns]
    return moved


BEHAVIOURS: Mapping[str, Callable[[Pixels], Pixels]] = MappingProxyType(
    {"flip": flip, "brighter": brighter, "darker": darker, "jpeg": compress, "shift": shift}
)


def count_changed_decisions(
    images: Iterable[Pixels], decide: Decide, behaviours: Sequence[str] = tuple(BEHAVIOURS), batch_size: int = 16
) -> list[ChangedDecisions]:
    """Decide on each image and on each of its changed forms.

    Args:
        images: ``(H, W)`` or ``(H, W, 3)`` uint8, as the camera gives them, before any resizing; only a batch is held at a time.
        decide: the model with its threshold.
        behaviours: names in `BEHAVIOURS`.
        batch_size: images for one call of ``decide``.

    Raises:
        DataError: an image of another type or shape, or another number of decisions than of images.
    """
    changed, total = dict.fromkeys(behaviours, 0), 0
    remaining = iter(images)
    while batch := list(islice(remaining, batch_size)):
        for image in batch:
            _check(image)
        unchanged = _decisions(decide, batch)
        total += len(batch)
        for name in behaviours:
            decisions = _decisions(decide, [BEHAVIOURS[name](image) for image in batch])
            changed[name] += int((decisions != unchanged).sum())
    return [ChangedDecisions(name, count, total) for name, count in changed.items()]


def _decisions(decide: Decide, images: Sequence[Pixels]) -> NDArray[np.bool_]:
    decisions = np.asarray(decide(images), dtype=np.bool_)
    if decisions.shape != (len(images),):
        raise DataError(f"decisions: got shape {decisions.shape} for {len(images)} images, need one decision for each image")
    return decisions


def _check(image: Pixels) -> None:
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3) or not image.size:
        raise DataError(
            f"image: got {image.dtype} of shape {image.shape}, need uint8 of shape (height, width) or (height, width, 3); "
            "convert the image to 8 bits first"
        )
