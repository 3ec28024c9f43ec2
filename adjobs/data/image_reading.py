"""How pixels of more than 8 bits become 8 bits: one decision for a data set, kept with every detector trained on it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np

BIT_DEPTHS = (8, 10, 12, 14, 16)
"""Bit depths of cameras; files with more than 8 bits have 16."""

_DARKEST = 0.01
"""Share of a data set's images that may be darker than its ``darkest_peak``: a few black images say nothing about the others."""

_MUCH_DARKER = 3
"""Cameras shift 10, 12 and 14 bits by factors of 64, 16 and 4; below 4, since images differ in brightness."""

Depths = Literal["8 bits", "more than 8 bits", "both"]


class PixelRange(NamedTuple):
    """The pixel values of one image of more than 8 bits, as they are in the file.

    Attributes:
        bits: of a pixel in the file: 12, 16 or 32.
        is_float: floating-point numbers; otherwise integers.
        low: smallest value; nan if one is not finite.
        high: largest value; nan if one is not finite.
    """

    bits: int
    is_float: bool
    low: float
    high: float


@dataclass(frozen=True)
class ImageReading:
    """How the images of a data set are read.

    Images of 8 bits are always used as they are. Of all others, ``black`` becomes 0 and ``white`` 255, linearly; values outside
    are clipped.

    Attributes:
        black: pixel value that becomes 0.
        white: pixel value that becomes 255; None where the data set has no image of more than 8 bits: a later one is read over
            the full range of its file.
        has_range: whether the job gave the range, which allows floating-point numbers and negative values.
        depths: which images the data set has.
        darkest_peak: the largest pixel value of the data set's darkest image of more than 8 bits, a hundredth of the images
            aside; None where unknown. It does not change how images are read.
    """

    black: float = 0.0
    white: float | None = None
    has_range: bool = False
    depths: Depths = "8 bits"
    darkest_peak: float | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        extent = 1 - abs(self.black) if self.white is None else self.white - self.black
        if not (math.isfinite(extent) and extent > 0):
            raise ValueError(f"got black {self.black} and white {self.white}; white must be above black, both finite")

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)

    @property
    def key(self) -> str:
        """What distinguishes caches of images that were read differently; "" where all are read as they are."""
        return "" if self.white is None else f"-{self.black:.17g}to{self.white:.17g}"

    def fault(self, pixels: PixelRange) -> str | None:
        """Why an image cannot be read; None if it can."""
        if math.isnan(pixels.low):
            return "has pixels that are NaN or infinite; all must be finite; export it again"
        if self.has_range:
            return None
        ask = "set data.value_range to [the value of black, the value of white], or convert the images to 8 or 16 bits"
        if pixels.is_float:
            kind = f"floating-point pixels (from {pixels.low:g} to {pixels.high:g})"
            return f"has {kind}, whose black and white nobody can know; {ask}"
        if not is_unsigned_16(pixels):
            return f"has values from {pixels.low:.0f} to {pixels.high:.0f}; allowed are 0 to 65535 where no range is set; {ask}"
        return None

    def to_8_bits(self, values: np.ndarray, bits: int) -> np.ndarray:
        """Scale pixels of more than 8 bits.

        Args:
            values: of any shape, that :meth:`fault` accepts.
            bits: of a pixel in the file.

        Returns:
            uint8 of the same shape.
        """
        white = float(2 ** min(bits, 16) - 1) if self.white is None else self.white
        if values.dtype == np.uint16:  # a table is much faster
            table = self._scale(np.arange(2**16), white)
            return np.asarray(table[values])
        return self._scale(values, white)

    def _scale(self, values: np.ndarray, white: float) -> np.ndarray:
        share = (values.astype(np.float64) - self.black) * 255 / (white - self.black)  # in this order: halves are exact
        scaled: np.ndarray = np.floor(np.clip(share, 0, 255) + 0.5).astype(np.uint8)
        return scaled

    def warning(self, pixels: PixelRange | None) -> str | None:
        """What is unusual about an image, given those of the data set; None if nothing is.

        Args:
            pixels: its values; None for an image of 8 bits.
        """
        if pixels is None:
            if self.depths != "more than 8 bits":
                return None
            return "has 8 bits, those of the training data have more; its brightness may differ; use the camera's original"
        if self.white is None:
            return (
                f"has {pixels.bits} bits, those of the training data have 8; the full range of its file is used; convert it as "
                "the training images were"
            )
        if pixels.low < self.black or pixels.high > self.white:
            key = "data.value_range" if self.has_range else "data.bit_depth"
            return (
                f"has values from {pixels.low:g} to {pixels.high:g}, outside {self.black:g} to {self.white:g}, the range of the "
                f"training data; they are clipped; check the camera's exposure, and {key} of the training"
            )
        if self._has_fewer_bits(pixels):
            return (
                f"has values up to {pixels.high:g}, which {required_bits(pixels)} bits hold; the darkest training images reach "
                f"{self.darkest_peak:g}; if the camera or its software no longer shifts its values up, let it do so again; "
                "otherwise check the exposure"
            )
        return None

    def _has_fewer_bits(self, pixels: PixelRange) -> bool:
        """Whether an image is darker than all of the data set, as if its camera had fewer bits."""
        if self.darkest_peak is None or not is_unsigned_16(pixels):
            return False
        needs_fewer = any(pixels.high < 2**bits <= self.darkest_peak for bits in BIT_DEPTHS)
        return needs_fewer and pixels.high * _MUCH_DARKER < self.darkest_peak


DEFAULT_READING = ImageReading()
"""Every image over the full range of its file."""


class PixelScale(NamedTuple):
    """What a job says about images of more than 8 bits.

    Attributes:
        bit_depth: of the camera; None to find it.
        value_range: pixel values of black and white, in place of a bit depth.
    """

    bit_depth: int | None = None
    value_range: tuple[float, float] | None = None


DEFAULT_SCALE = PixelScale()


def decide_reading(ranges: Iterable[PixelRange | None], scale: PixelScale = DEFAULT_SCALE) -> ImageReading:
    """One reading for all images of a data set.

    Unless the job says otherwise, white is the largest value of the smallest bit depth of cameras that holds the values of all
    images: 10 and 12 bits that a camera's software saved as they are, and those that it shifted up to 16.

    Args:
        ranges: of each image that can be decoded; None for those of 8 bits.
        scale: what the job says.
    """
    ranges = list(ranges)
    deep = [pixels for pixels in ranges if pixels is not None]
    if not deep:
        return DEFAULT_READING
    depths: Depths = "both" if len(deep) < len(ranges) else "more than 8 bits"
    if scale.value_range is not None:
        black, white = map(float, scale.value_range)
        return _with_darkest_peak(ImageReading(black, white, has_range=True, depths=depths), deep)
    bits = scale.bit_depth or max(map(required_bits, filter(is_unsigned_16, deep)), default=BIT_DEPTHS[-1])
    return _with_darkest_peak(ImageReading(white=float(2**bits - 1), depths=depths), deep)


def _with_darkest_peak(reading: ImageReading, deep: Iterable[PixelRange]) -> ImageReading:
    """The reading with the darkest peak of the images that can be read by it."""
    peaks = sorted(pixels.high for pixels in deep if reading.fault(pixels) is None)
    return replace(reading, darkest_peak=float(peaks[int(_DARKEST * len(peaks))]) if peaks else None)


def is_unsigned_16(pixels: PixelRange) -> bool:
    """Whether an image has only values that an unsigned integer of 16 bits can have."""
    return not pixels.is_float and pixels.low >= 0 and pixels.high < 2**16


def required_bits(pixels: PixelRange) -> int:
    """The smallest bit depth of cameras that holds the values of an image, or its file's own if that is below 16."""
    if pixels.bits < 16:
        return pixels.bits
    return next(bits for bits in BIT_DEPTHS if pixels.high < 2**bits)
