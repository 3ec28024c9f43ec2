"""Decode and resize images, in the same way for training and for prediction."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from adjobs.data.image_file import MAX_PIXELS, ImageError, decoding_errors, opened, refuse_large, source_name, upright_size
from adjobs.data.image_reading import DEFAULT_READING, DEFAULT_SCALE, ImageReading, PixelRange, PixelScale, decide_reading
from adjobs.data.pixels import Pixels, find_range, is_colour_16, pixels_of, read_pixels
from adjobs.errors import DataError
from adjobs.parallel import in_threads

__all__ = ["MAX_PIXELS", "ImageError"]  # this module's own are public without it

RESIZE_RULE = "stretch-bilinear-antialias-2"
"""Identifies what :func:`load_rgb` does; change it with the function, since caches and models store it."""


@dataclass(frozen=True)
class DecodedImage:
    """An image ready to use.

    Attributes:
        image: upright, in mode L or RGB with 8 bits.
        range: pixel values of an image of more than 8 bits, None for others.
        is_transparent: some of its pixels are fully transparent; the colours behind are used all the same.
        pages: pages or frames of the same size, of which the first is used.
    """

    image: Image.Image
    range: PixelRange | None = None
    is_transparent: bool = False
    pages: int = 1


def load_rgb(source: Path | bytes, size: int, reading: ImageReading = DEFAULT_READING) -> np.ndarray:
    """Decode an image upright and stretch it to a square.

    Args:
        source: file, or a file's content.
        size: side of the square in pixels.
        reading: how more than 8 bits become 8.

    Returns:
        ``(size, size, 3)`` uint8. Grey images get three equal channels, transparency is dropped. Only the largest of several
        pages is used, or the first frame.

    Raises:
        ImageError: the image is unreadable, truncated or too large.
    """
    return stretch(decode(source, reading), size)


def stretch(image: Image.Image, size: int) -> np.ndarray:
    """Stretch a decoded image to ``(size, size, 3)`` uint8, by ``RESIZE_RULE``: first its rows, then its columns."""
    # In two calls, because each pass rounds to grey levels, and Pillow 13 begins tall images with the columns, Pillow 12 none.
    rows = image.resize((size, image.height), Image.Resampling.BILINEAR)
    return np.array(rows.resize((size, size), Image.Resampling.BILINEAR).convert("RGB"))


def image_size(path: Path) -> tuple[int, int]:
    """Width and height of the upright image, from the header alone.

    Raises:
        ImageError: the header is unreadable, or the image is too large.
    """
    with opened(path) as image:
        return upright_size(image)


def refuse_other_size(path: Path, width: int, height: int) -> None:
    """Refuse boxes that were drawn on the image at another size: their positions would be wrong without any other sign.

    Raises:
        ValueError: the sizes differ. Unreadable images are ignored here and reported by the check of the data set.
    """
    with suppress(ImageError):
        actual = image_size(path)
        if actual != (width, height):
            raise ValueError(
                f"boxes of {path.name} are for {width} x {height} pixels, but the upright image has {actual[0]} x {actual[1]}; "
                "both must be equal"
            )


def find_reading(paths: Sequence[Path], scale: PixelScale = DEFAULT_SCALE, *, progress: bool = False) -> ImageReading:
    """How images are read together, where no check of the whole data set has decided it; see :func:`find_ranges`."""
    return decide_reading(find_ranges(paths, progress=progress), scale)


def find_ranges(paths: Sequence[Path], *, progress: bool = False) -> list[PixelRange | None]:
    """Values of the images that can be read; None for each of 8 bits, of which only the header is read."""

    def find(path: Path) -> tuple[PixelRange | None, ...]:
        with suppress(ImageError):
            return (find_range(path),)
        return ()

    ranges = in_threads(find, paths, text="reading headers", progress=progress)
    return [pixels for of_image in ranges for pixels in of_image]


def decode(source: Path | bytes, reading: ImageReading = DEFAULT_READING) -> Image.Image:
    """Decode a whole image upright, in mode L or RGB with 8 bits.

    Args:
        source: file, or a file's content.
        reading: how more than 8 bits become 8.

    Raises:
        ImageError: the image is unreadable, truncated or too large, or ``reading`` does not say how to read its values.
    """
    return decode_details(source, reading).image


def decode_details(source: Path | bytes, reading: ImageReading = DEFAULT_READING) -> DecodedImage:
    """Like :func:`decode`, with what is known about the image."""
    with decoding_errors(source_name(source)):
        return to_8_bits(read_pixels(source), reading, source_name(source))


def decode_opened(image: Image.Image, name: str, reading: ImageReading = DEFAULT_READING) -> DecodedImage:
    """Like :func:`decode_details`, for an image that is open or in memory; ``name`` is for errors."""
    with decoding_errors(name):
        refuse_large(name, *image.size)
        if 0 in image.size:
            raise ImageError(name, "unreadable", f"has no pixels (size {image.width} x {image.height}); give another image")
        if is_colour_16(image):
            reason = "has colour of 16 bits, of which Pillow keeps 8; give the path of its file, or a uint16 array"
            raise ImageError(name, "unreadable", reason)
        return to_8_bits(pixels_of(image, name), reading, name)


def decode_array(array: np.ndarray, name: str, reading: ImageReading = DEFAULT_READING) -> DecodedImage:
    """Like :func:`decode_details`, for a ``(H, W)``, ``(H, W, 1)`` or ``(H, W, 3)`` array of uint8 or uint16, RGB.

    Raises:
        DataError: another type or shape.
        ImageError: it is too large.
    """
    is_image = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3))
    if array.dtype not in (np.uint8, np.uint16) or not is_image or 0 in array.shape:
        raise DataError(
            f"{name}: got an array of {array.dtype} and shape {array.shape}; give uint8 or uint16 of shape (H, W), or "
            "(H, W, 3) in the order red, green, blue"
        )
    values = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    refuse_large(name, values.shape[1], values.shape[0])
    pixels = Pixels(Image.fromarray(values)) if values.dtype == np.uint8 else Pixels(values=values, bits=16)
    return to_8_bits(pixels, reading, name)


def to_8_bits(pixels: Pixels, reading: ImageReading, name: str) -> DecodedImage:
    """Decoded pixels in mode L or RGB with 8 bits.

    Args:
        pixels: of any kind.
        reading: how more than 8 bits become 8.
        name: of the image, for errors.

    Raises:
        ImageError: ``reading`` does not say how to read its values.
    """
    if pixels.image is not None:
        has_alpha = pixels.image.mode in ("RGBA", "LA", "PA") or "transparency" in pixels.image.info
        # Through RGBA, since Pillow warns if a palette's transparency is dropped directly.
        image = pixels.image.convert("RGBA") if has_alpha else pixels.image
        is_transparent = has_alpha and image.getchannel("A").getextrema()[0] == 0
        return DecodedImage(image if image.mode in ("L", "RGB") else image.convert("RGB"), None, is_transparent, pixels.pages)
    assert pixels.values is not None
    value_range = pixels.range
    assert value_range is not None
    fault = reading.fault(value_range)
    if fault:
        raise ImageError(name, "value range", fault)
    values = reading.to_8_bits(pixels.values, pixels.bits)
    is_transparent = pixels.alpha is not None and not pixels.alpha.all()
    return DecodedImage(
        Image.fromarray(255 - values if pixels.white_is_zero else values), value_range, is_transparent, pixels.pages
    )
