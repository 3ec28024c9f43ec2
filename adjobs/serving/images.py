"""Images of requests, read exactly as those that the detector was trained on, and kept no larger than what it needs of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from adjobs.data.image_file import ImageError, opened, upright_size
from adjobs.data.images import DecodedImage, stretch
from adjobs.errors import AdjobsError
from adjobs.serving.limits import RefusalError
from adjobs.serving.structure import find_excess

if TYPE_CHECKING:
    from adjobs.inference.detector import Detector

Source = bytes | np.ndarray
"""The content of an image file, or a ``(H, W, 3)`` uint8 array. Never a path: a client could read files of this machine."""


class PreparedImage(NamedTuple):
    """What is kept of an image.

    Attributes:
        decoded: at the detector's own size, with what is known of the original.
        size: width and height of the upright original in pixels.
        shrunk: as overlays show it, if one is wanted.
    """

    decoded: DecodedImage
    size: tuple[int, int]
    shrunk: Image.Image | None


def prepare(source: Source, index: int, detector: Detector, max_pixels: int, *, with_overlay: bool) -> PreparedImage:
    """Decode and stretch an image.

    Args:
        source: of a request.
        index: in the request, for errors.
        detector: that is to predict it.
        max_pixels: of the original.
        with_overlay: whether it will be drawn.

    Raises:
        RefusalError: no image, truncated, or too large.
    """
    try:
        _refuse_large(source, index, max_pixels)
        decoded = detector.read_image(source, f"image {index}")
    except ImageError as error:
        status, kind = (413, "too large") if error.kind == "too large" else (422, "image")
        raise RefusalError(status, kind, f"image {index}: {error.reason}", index=index) from error
    except AdjobsError as error:
        raise RefusalError(422, "image", str(error), index=index) from error
    small = Image.fromarray(stretch(decoded.image, detector.manifest.image_size))
    return PreparedImage(replace(decoded, image=small), decoded.image.size, _shrink(decoded.image) if with_overlay else None)


def _refuse_large(source: Source, index: int, max_pixels: int) -> None:
    if isinstance(source, bytes):
        if excess := find_excess(source):
            raise RefusalError(413, "too large", f"image {index}: {excess}, as no camera writes; save it again", index=index)
        with opened(source) as image:
            width, height = upright_size(image)
    else:
        height, width = source.shape[:2]
    if width * height > max_pixels:
        problem = f"has {width} x {height} pixels, the maximum is {max_pixels:,}"
        raise RefusalError(413, "too large", f"image {index}: {problem}; scale it down or crop it", index=index)


def _shrink(image: Image.Image) -> Image.Image:
    from adjobs.inference.overlay import shrink

    return shrink(image)
