"""How images use the levels of their pixels: bit depths, distinct levels, saturation."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from adjobs.data.image_reading import (
    BIT_DEPTHS,
    DEFAULT_SCALE,
    ImageReading,
    PixelRange,
    PixelScale,
    is_unsigned_16,
    required_bits,
)
from adjobs.data.problem import Problem

FEW_LEVELS = 32
"""Levels of 256, up to which the median image shows too little of faint defects."""

MAX_BLACK, MAX_WHITE = 0.5, 0.2
"""Fractions of black and of white pixels in the median image above which a warning is given; masked backgrounds are black."""

RARE = 0.1
"""Fraction of the images up to which a larger bit depth than that of the others is called rare."""


class LevelUsage(NamedTuple):
    """How an image uses its 256 levels, after more than 8 bits became 8.

    Attributes:
        levels: number of distinct levels in any channel.
        black: fraction of the values that are 0.
        white: fraction of the values that are 255.
    """

    levels: int
    black: float
    white: float


@dataclass(frozen=True)
class LevelSummary:
    """How the images of a data set use the levels of their pixels.

    Attributes:
        images: number of images by bit depth: "8 bits", or "12 of 16 bits" where values of 12 bits are in files of 16.
        black: pixel value that is read as black, of images of more than 8 bits; None without such images.
        white: pixel value that is read as white.
        assumed_bits: bit depth that was assumed because it holds all values; None where the job or the files say it.
        median_levels: distinct levels of 256, of the median image.
        min_levels: of the image with fewest.
        median_black: fraction of values at 0, of the median image.
        median_white: fraction of values at 255, of the median image.
        max_black: of the image with most.
        max_white: of the image with most.
    """

    images: dict[str, int]
    black: float | None
    white: float | None
    assumed_bits: int | None
    median_levels: float
    min_levels: int
    median_black: float
    median_white: float
    max_black: float
    max_white: float

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


def count_levels(image: Image.Image) -> LevelUsage:
    """The levels of an image in mode L or RGB."""
    histogram = np.reshape(image.histogram(), (-1, 256)).sum(axis=0)
    total = int(histogram.sum())
    return LevelUsage(int(np.count_nonzero(histogram)), int(histogram[0]) / total, int(histogram[255]) / total)


def summarize_levels(
    usages: Sequence[LevelUsage], ranges: Sequence[PixelRange | None], reading: ImageReading, scale: PixelScale = DEFAULT_SCALE
) -> LevelSummary | None:
    """The levels of all images of a data set; None without usable images.

    Args:
        usages: of each usable image.
        ranges: of each readable image; None for 8 bits.
        reading: how they are read.
        scale: what the job says about images of more than 8 bits.
    """
    if not usages:
        return None
    levels, black, white = (np.array(values) for values in zip(*usages, strict=True))
    depths = Counter(_depth(pixels) for pixels in ranges)
    return LevelSummary(
        images=dict(sorted(depths.items())),
        black=None if reading.white is None else reading.black,
        white=reading.white,
        assumed_bits=_assumed_bits(ranges, reading) if scale == DEFAULT_SCALE else None,
        median_levels=float(np.median(levels)),
        min_levels=int(levels.min()),
        median_black=float(np.median(black)),
        median_white=float(np.median(white)),
        max_black=float(black.max()),
        max_white=float(white.max()),
    )


def _assumed_bits(ranges: Sequence[PixelRange | None], reading: ImageReading) -> int | None:
    """The bit depth of the camera, where files have more bits than all values need."""
    if reading.white is None or reading.white >= 2 ** BIT_DEPTHS[-1] - 1:
        return None
    bits = round(math.log2(reading.white + 1))
    return bits if any(pixels is not None and is_unsigned_16(pixels) and pixels.bits > bits for pixels in ranges) else None


def level_problems(summary: LevelSummary | None, ranges: Sequence[PixelRange | None], reading: ImageReading) -> Iterator[Problem]:
    """Warnings about the data set as a whole."""
    if summary is None:
        return
    yield from (Problem("", kind, message, "warning") for kind, message in _depth_findings(ranges, reading))
    if summary.median_levels <= FEW_LEVELS:
        cause = (
            "" if reading.white is None else f" (white is {reading.white:g}; set data.bit_depth or data.value_range if it is not)"
        )
        message = (
            f"the median image uses {summary.median_levels:.0f} of 256 levels{cause}, on which faint defects cannot be seen; "
            "export the images with more contrast or expose them longer"
        )
        yield Problem("", "few levels", message, "warning")
    for name, share, limit in (("black", summary.median_black, MAX_BLACK), ("white", summary.median_white, MAX_WHITE)):
        if share > limit:
            message = (
                f"{share:.0%} of the median image are {name} without any detail; unless that is background, change exposure or "
                "lighting"
            )
            yield Problem("", f"saturated {name}", message, "warning")


def _depth_findings(ranges: Sequence[PixelRange | None], reading: ImageReading) -> Iterator[tuple[str, str]]:
    """Kind and message of what is wrong with the bit depths."""
    deep = [pixels for pixels in ranges if pixels is not None]
    white = "unknown" if reading.white is None else f"{reading.white:g}"
    if 0 < len(deep) < len(ranges):
        message = (
            f"{len(ranges) - len(deep)} images have 8 bits and {len(deep)} have more ({white} is white); they may differ "
            "in brightness for that alone; all images should come from the same camera and software"
        )
        yield "bit depth", message
    highest_value = np.inf if reading.white is None else reading.white
    readable = [pixels for pixels in deep if reading.fault(pixels) is None]  # others, such as with negative values, are errors
    clipped = sum(pixels.low < reading.black or pixels.high > highest_value for pixels in readable)
    if clipped:
        remedy = "set a wider data.value_range" if reading.has_range else "set a larger data.bit_depth"
        message = f"{clipped} of {len(deep)} images have values outside {reading.black:g} to {white}, which are clipped; {remedy}"
        yield "clipped", message
    needed = Counter(required_bits(pixels) for pixels in deep if is_unsigned_16(pixels))
    if len(needed) < 2 or reading.has_range:
        return
    *_, others, highest = sorted(needed)
    if needed[highest] <= RARE * needed.total() and reading.white == 2**highest - 1:
        message = (
            f"{needed[highest]} of {needed.total()} images have values above {2**others - 1}, so that {white} is white in all; "
            f"if their brightest pixels are no measurement, set data.bit_depth={others}, which shows the others brighter"
        )
        yield "bit depth", message


def _depth(pixels: PixelRange | None) -> str:
    if pixels is None:
        return "8 bits"
    if pixels.is_float:
        return "floating-point numbers"
    if is_unsigned_16(pixels):
        return f"{required_bits(pixels)} of {pixels.bits} bits"
    return f"{'signed ' if pixels.low < 0 else ''}{pixels.bits} bits"
