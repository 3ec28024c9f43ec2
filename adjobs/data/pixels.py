"""The pixels of an image file as they are in it, upright: 8 bits as an image, more as an array."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, TiffImagePlugin

from adjobs.data.image_file import ImageError, equal_pages, opened, orientation, source_name
from adjobs.data.image_reading import PixelRange

_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_OTHER_BYTE = {"B": "L", "L": "B", "N": "B" if np.little_endian else "L"}
"""Byte orders of 16-bit colour in Pillow's raw modes, which keep the high byte of each value: the other order keeps the low."""

_SWAPPED = {"F;32BF": "F;32NF", "I;16BS": "I;16NS", "I;32BS": "I;32NS"}
"""Raw modes that Pillow chooses for big-endian TIFFs, and those of what libtiff gives it: the machine's own order."""


@dataclass(frozen=True)
class Pixels:
    """The decoded pixels of an image, upright.

    Attributes:
        image: 8 bits, in any mode; None where there are more.
        values: ``(H, W)`` or ``(H, W, 3)`` integers or float32 of more than 8 bits.
        bits: of a value in the file.
        white_is_zero: ``values`` are darker the larger they are.
        alpha: ``(H, W)`` bool, False where an image of more than 8 bits is fully transparent; None without transparency.
        pages: pages or frames of the same size, of which this is the first.
    """

    image: Image.Image | None = None
    values: np.ndarray | None = None
    bits: int = 8
    white_is_zero: bool = False
    alpha: np.ndarray | None = None
    pages: int = 1

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        if self.image is not None:
            return self.image.size
        assert self.values is not None
        return self.values.shape[1], self.values.shape[0]

    @property
    def range(self) -> PixelRange | None:
        """Smallest and largest value of an image of more than 8 bits; None for others."""
        if self.values is None:
            return None
        low, high = float(self.values.min()), float(self.values.max())
        is_finite = bool(np.isfinite(low) and np.isfinite(high))  # NaN anywhere makes both NaN
        return PixelRange(self.bits, self.values.dtype.kind == "f", *((low, high) if is_finite else (np.nan, np.nan)))


def read_pixels(source: Path | bytes) -> Pixels:
    """Decode an image file.

    Raises:
        ImageError: the image is unreadable, truncated or too large, or of a kind that cannot be read without loss.
    """
    with opened(source) as image:
        pages = equal_pages(image)
        if is_colour_16(image):
            return _read_colour_16(source, image, pages)
        return pixels_of(image, source_name(source), pages)


def find_range(source: Path | bytes) -> PixelRange | None:
    """The range of values of an image of more than 8 bits; None for 8 bits, of which only the header is read.

    Raises:
        ImageError: see :func:`read_pixels`.
    """
    with opened(source) as image:
        is_deep = image.mode[0] in "IF" or is_colour_16(image)
    return read_pixels(source).range if is_deep else None


def pixels_of(image: Image.Image, name: str, pages: int = 1) -> Pixels:
    """The pixels of an opened image, or of one in memory.

    Args:
        image: in any mode.
        name: of the image, for errors.
        pages: see :class:`Pixels`.

    Raises:
        ImageError: its kind cannot be read without loss.
    """
    fault = _find_fault(image)
    if fault:
        raise ImageError(name, "unreadable", fault)
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    white_is_zero = tags.get(262) == 0
    bits, is_unsigned = tags.get(258, (None,))[0], tags.get(339, (1,))[0] == 1
    _fix_byte_order(image)
    image = upright(image)
    if image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.uint16, copy=False)
        return Pixels(values=values, bits=bits or 16, white_is_zero=white_is_zero, pages=pages)
    if image.mode in ("I", "F"):
        values = np.asarray(image)
        if bits == 32 and image.mode == "I" and is_unsigned:
            values = values.view(np.uint32)
        return Pixels(values=values, bits=bits or 32, white_is_zero=white_is_zero, pages=pages)
    return Pixels(image=image, pages=pages)


def upright(image: Image.Image) -> Image.Image:
    """An opened image, decoded and upright."""
    image.load()  # a TIFF is upright after this
    method = _TRANSPOSITIONS.get(orientation(image))
    return image if method is None else image.transpose(method)


def is_colour_16(image: Image.Image) -> bool:
    """Whether an image that is not decoded yet has colour or transparency of 16 bits, of which Pillow keeps 8."""
    return image.format in ("PNG", "TIFF") and image.mode in ("RGB", "RGBA", "CMYK") and ";16" in _raw_mode(image)


def _read_colour_16(source: Path | bytes, image: Image.Image, pages: int) -> Pixels:
    """Decode twice: once for the high bytes of all values, once for the low ones."""
    name = source_name(source)
    fault = _find_fault(image)
    if fault:
        raise ImageError(name, "unreadable", fault)
    if _raw_mode(image) == "LA;16B":  # grey with transparency, four bytes a pixel
        _set_raw_mode(image, "RGBA")
        high_and_low = np.asarray(upright(image)).astype(np.uint16)
        both = high_and_low[..., 0::2] << 8 | high_and_low[..., 1::2]
        return Pixels(values=np.ascontiguousarray(both[..., 0]), bits=16, alpha=both[..., 1] > 0, pages=pages)
    raw_mode = _raw_mode(image)
    with opened(source) as again:
        _set_raw_mode(again, raw_mode[:-1] + _OTHER_BYTE[raw_mode[-1]])
        low = np.asarray(upright(again))
    both = np.asarray(upright(image)).astype(np.uint16) << 8 | low
    alpha = both[..., 3] > 0 if both.shape[2] == 4 else None
    return Pixels(values=np.ascontiguousarray(both[..., :3]), bits=16, alpha=alpha, pages=pages)


def _find_fault(image: Image.Image) -> str | None:
    """Why an opened image cannot be read without loss; None if it can."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return None
    tags = image.tag_v2
    bits, sample_format, raw_mode = max(tags.get(258, (1,))), tags.get(339, (1,))[0], _raw_mode(image)
    if sample_format == 2 and bits <= 8:
        return "has signed pixels of 8 bits; allowed are unsigned ones of 8 or 16 bits; convert it"
    if bits > 8 and image.mode in ("RGB", "RGBA", "CMYK") and tags.get(284) == 2:
        return "has 16 bits in separate planes of colour, which cannot be read; save it with interleaved (contiguous) colours"
    if bits > 8 and (image.mode == "CMYK" or raw_mode.startswith("RGBa")):
        kind = "CMYK" if image.mode == "CMYK" else "premultiplied transparency"
        return f"has 16 bits with {kind}, which cannot be read; save it as grey or RGB without transparency"
    return None


def _raw_mode(image: Image.Image) -> str:
    """Pillow's name for the layout of the values in the file; "" once it is decoded."""
    tiles = getattr(image, "tile", None)
    if not tiles:
        return ""
    args = tiles[0].args
    return str(args if isinstance(args, str) else args[0] if args else "")


def _set_raw_mode(image: Image.Image, raw_mode: str) -> None:
    image.tile = [  # type: ignore[attr-defined]
        tile._replace(args=raw_mode if isinstance(tile.args, str) else (raw_mode, *tile.args[1:]))
        for tile in image.tile  # type: ignore[attr-defined]
    ]


def _fix_byte_order(image: Image.Image) -> None:
    """Undo a second swap of bytes by Pillow 13, in compressed big-endian TIFFs of 32 bits or signed values."""
    if getattr(image, "tile", None) and image.tile[0].codec_name == "libtiff" and _raw_mode(image) in _SWAPPED:  # type: ignore[attr-defined]
        _set_raw_mode(image, _SWAPPED[_raw_mode(image)])
