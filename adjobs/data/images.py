"""Decode and resize images, in the same way for training and for prediction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from adjobs.errors import DataError, one_line

RESIZE_RULE = "stretch-bilinear-antialias-1"
"""Identifies what :func:`load_rgb` does; change it with the function, since caches and models store it."""

MAX_PIXELS = 178_956_970
"""Pillow's own limit: a 24-bit image of half a GiB."""

# Only these decoders run: bytes from clients must not reach Ghostscript and other rarely used decoders.
_DECODERS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
_TRANSPOSED = {5, 6, 7, 8}  # EXIF orientations that swap width and height


class ImageError(DataError):
    """An image cannot be used.

    Attributes:
        name: the file.
        kind: "unreadable", "truncated" or "too large", or for masks "mask size" or "mask value".
        reason: the message without the name.
    """

    def __init__(self, name: str, kind: str, reason: str) -> None:
        super().__init__(name, kind, reason)
        self.name, self.kind, self.reason = name, kind, reason

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


def load_rgb(source: Path | bytes, size: int) -> np.ndarray:
    """Decode an image upright and stretch it to a square.

    Args:
        source: file, or a file's content.
        size: side of the square in pixels.

    Returns:
        ``(size, size, 3)`` uint8. Grey images get three equal channels, transparency is dropped, 16-bit grey is divided
        by 257 (the full range, so that brightness means the same in every image). Only the first of several frames is used.

    Raises:
        ImageError: the image is unreadable, truncated or too large.
    """
    return stretch(decode(source), size)


def stretch(image: Image.Image, size: int) -> np.ndarray:
    """Stretch a decoded image to ``(size, size, 3)`` uint8, by ``RESIZE_RULE``."""
    return np.array(image.resize((size, size), Image.Resampling.BILINEAR).convert("RGB"))


def image_size(path: Path) -> tuple[int, int]:
    """Width and height of the upright image, from the header alone.

    Raises:
        ImageError: the header is unreadable, or the image is too large.
    """
    with _opened(path) as image:
        width, height = image.size
        # A TIFF's size is that of the upright image already; getexif of a PNG without EXIF would decode the whole image.
        has_orientation = image.format != "TIFF" and (image.format != "PNG" or "exif" in image.info)
        transposed = has_orientation and image.getexif().get(ExifTags.Base.Orientation) in _TRANSPOSED
        return (height, width) if transposed else (width, height)


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


def decode(source: Path | bytes) -> Image.Image:
    """Decode a whole image upright, in mode L or RGB with 8 bits.

    Raises:
        ImageError: the image is unreadable, truncated or too large.
    """
    with _opened(source) as image:
        return to_upright(image, _name(source))


def decode_opened(image: Image.Image, name: str) -> Image.Image:
    """Like :func:`decode`, for an image that is open or in memory; ``name`` is for errors."""
    with _decoding_errors(name):
        _refuse_large(name, image.width * image.height)
        if 0 in image.size:
            raise ImageError(name, "unreadable", f"has no pixels (size {image.width} x {image.height}); give another image")
        return to_upright(image, name)


def to_upright(image: Image.Image, name: str) -> Image.Image:
    """A copy of an opened image, upright and in mode L or RGB with 8 bits.

    Args:
        image: in any mode.
        name: the image's name, for errors.

    Raises:
        ImageError: the image has pixels of 32 bits.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        grey = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((grey + 128) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        reason = f"has pixels of 32 bits (mode {image.mode}), whose range is undefined; allowed are 8 and 16 bits; convert it"
        raise ImageError(name, "unreadable", reason)
    if image.mode in ("L", "RGB"):
        return image.copy()
    # Through RGBA, since Pillow warns if a palette's transparency is dropped directly.
    return (image.convert("RGBA") if "transparency" in image.info else image).convert("RGB")


def decode_mask(source: Path | bytes) -> np.ndarray:
    """Decode a mask upright.

    Returns:
        ``(H, W)`` bool, True on defect pixels: values above 127 if the mask has any (edges may be smoothed, JPEG causes
        ringing), otherwise values other than 0 (masks of small class numbers). Transparent pixels are False.

    Raises:
        ImageError: the mask is unreadable, truncated or too large.
    """
    with _opened(source) as image:
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode in ("1", "L") or image.mode.startswith(("I", "F")):
            values = np.asarray(image)
            values = values if image.mode in ("1", "L") else np.clip(values, 0, 255)
        else:
            rgba = np.asarray(image.convert("RGBA"))
            values = rgba[..., :3].max(axis=2) * (rgba[..., 3] > 0)
        mask: np.ndarray = values > (127 if values.max() > 127 else 0)
        return mask


@contextmanager
def _opened(source: Path | bytes) -> Iterator[Image.Image]:
    """Open an image by its header, and convert every error while it is open to an ImageError."""
    name = _name(source)
    with _decoding_errors(name):
        # Never by name: Pillow 13 would memory-map uncompressed grey TIFFs and scramble those that must be rotated.
        file = BytesIO(source) if isinstance(source, bytes) else source.open("rb")
        with file, Image.open(file, formats=_DECODERS) as image:
            _refuse_large(name, image.width * image.height)
            yield image


@contextmanager
def _decoding_errors(name: str) -> Iterator[None]:
    """Convert every error to an ImageError."""
    try:
        yield
    except ImageError:
        raise
    except Image.DecompressionBombError:  # Pillow's own check of the header, which runs first unless it is disabled
        _refuse_large(name, MAX_PIXELS + 1)
    except UnidentifiedImageError as error:
        reason = "is not a supported image; allowed are PNG, JPEG, BMP, TIFF and WebP; export it again or remove it"
        raise ImageError(name, "unreadable", reason) from error
    except Exception as error:  # decoders raise all kinds of errors for damaged files
        cause = one_line(error) if not isinstance(error, OSError) else error.strerror or one_line(error)
        kind = "truncated" if "truncated" in cause.lower() else "unreadable"
        raise ImageError(name, kind, f"cannot be decoded ({cause}); export it again or remove it") from error


def _refuse_large(name: str, pixels: int) -> None:
    if pixels > MAX_PIXELS:
        raise ImageError(
            name,
            "too large",
            f"has more than {MAX_PIXELS:,} pixels, the maximum; scale it down or crop it",
        )


def _name(source: Path | bytes) -> str:
    return f"image of {len(source)} bytes" if isinstance(source, bytes) else str(source)
