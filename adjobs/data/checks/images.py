"""Checks of images: unreadable ones, ones on which no defect can be seen, and ones unlike most others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from adjobs.data.checks.duplicates import SIDE, Descriptor, describe
from adjobs.data.checks.labels import inspect_labels
from adjobs.data.checks.levels import LevelUsage, count_levels
from adjobs.data.checks.masks import MaskSummary
from adjobs.data.dataset import Sample
from adjobs.data.image_reading import DEFAULT_READING, ImageReading, PixelRange
from adjobs.data.images import DecodedImage, ImageError, to_8_bits
from adjobs.data.pixels import read_pixels
from adjobs.data.problem import OUT_OF_MEMORY, Problem
from adjobs.data.walk import content_hash
from adjobs.errors import DataError

MIN_SIDE = 32
"""Pixels of the shorter side below which an image is called tiny: feature extractors halve it five times."""

MAX_SHAPE_RATIO, MAX_AREA_RATIO = 1.25, 2.0
"""Factors by which an image's aspect ratio and number of pixels may differ from their medians without a warning."""

SPREAD = 3.0
"""In data sets of varying shapes or areas: allowed multiple of the 75 % quantile of the distances, if that is larger."""

ONE_COLOUR = 4
"""Maximum grey levels between darkest and brightest pixel of a uniform image; JPEG and sensor noise leave that much."""

GREY, COLOURED = 2, 12
"""Grey levels between the channels: at most on a grey image, at least somewhere on a coloured one; in between, unclear."""


class InspectedImage(NamedTuple):
    """What is known about an image after decoding it.

    Attributes:
        sample: its sample.
        digest: sha256 of the file.
        size: width and height of the upright image, in pixels.
        has_colour: None if unclear.
        descriptor: for near duplicates.
        usage: how it uses the 256 levels of its pixels.
    """

    sample: Sample
    digest: str
    size: tuple[int, int]
    has_colour: bool | None
    descriptor: Descriptor
    usage: LevelUsage


class Inspection(NamedTuple):
    """The outcome of reading one sample.

    Attributes:
        image: None if it cannot be used.
        problems: of the sample.
        range: pixel values of an image of more than 8 bits; None for others.
        mask: what its mask images are like; None without usable ones.
    """

    image: InspectedImage | None
    problems: list[Problem]
    range: PixelRange | None = None
    mask: MaskSummary | None = None


class Content(NamedTuple):
    """What is known about the content of an image file, whatever its name and labels.

    Attributes:
        digest: sha256 of the file.
        size: width and height of the upright image, in pixels.
        range: pixel values of an image of more than 8 bits; None for others.
        fault: why its pixels cannot be used; None if they can.
        problems: those of the pixels, without a sample.
        details: ``has_colour``, ``descriptor`` and ``usage`` of :class:`InspectedImage`; None if the image was not decoded.
    """

    digest: str
    size: tuple[int, int]
    range: PixelRange | None
    fault: ImageError | None = None
    problems: tuple[Problem, ...] = ()
    details: tuple[bool | None, Descriptor, LevelUsage] | None = None


class ContentReader:
    """Decodes images, each content once: data sets exported from databases may name copies of an image thousands of times.

    Args:
        reading: how more than 8 bits become 8. With None, nothing but the range of values is found for such an image.
        store: function that stores a descriptor elsewhere than in memory, and gives what stands for it.
    """

    def __init__(self, reading: ImageReading | None = None, store: Callable[[Descriptor], Descriptor] | None = None) -> None:
        self._reading, self._store = reading, store
        self._contents: dict[str, Content] = {}

    def read(self, path: Path) -> Content:
        """What is known about a file; may be called in several threads.

        Raises:
            ImageError: it cannot be decoded.
            DataError: it cannot be read.
        """
        digest = content_hash(path)
        content = self._contents.get(digest)
        if content is None:
            content = self._contents[digest] = self._decode(path, digest)
        return content

    def _decode(self, path: Path, digest: str) -> Content:
        pixels = read_pixels(path)
        content = Content(digest, pixels.size, pixels.range)
        if self._reading is None and content.range is not None:
            return content
        try:
            decoded = to_8_bits(pixels, self._reading or DEFAULT_READING, str(path))
        except ImageError as error:
            return content._replace(fault=error)
        thumbnail = decoded.image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        descriptor = describe(thumbnail)
        descriptor = self._store(descriptor) if self._store else descriptor
        details = _has_colour(thumbnail), descriptor, count_levels(decoded.image)
        return content._replace(problems=tuple(_visibility_problems(decoded)), details=details)


def inspect_image(sample: Sample, contents: ContentReader) -> Inspection:
    """Decode the image and the labels of a sample."""
    try:
        return _inspect(sample, contents)
    except MemoryError:  # of this image: the others are inspected all the same
        message = "cannot be checked (not enough free memory); free some memory, scale the image down or crop it"
        return Inspection(None, [Problem(sample.id, OUT_OF_MEMORY, message)])


def _inspect(sample: Sample, contents: ContentReader) -> Inspection:
    try:
        content = contents.read(sample.image)
    except ImageError as error:
        return Inspection(None, [Problem(sample.id, error.kind, error.reason)])
    except DataError as error:
        return Inspection(None, [Problem(sample.id, "unreadable", str(error))])
    if content.details is None and content.fault is None:
        return Inspection(None, [], content.range)
    problems, mask = inspect_labels(sample, content.size)
    if content.details is None:
        assert content.fault is not None
        return Inspection(None, [*problems, Problem(sample.id, content.fault.kind, content.fault.reason)], content.range)
    problems.extend(replace(problem, sample=sample.id) for problem in content.problems)
    return Inspection(InspectedImage(sample, content.digest, content.size, *content.details), problems, content.range, mask)


def outlier_problems(images: Sequence[InspectedImage]) -> Iterator[Problem]:
    """Images unlike most others: grey among coloured ones or the reverse, and unusual sizes or shapes."""
    if images:
        yield from _colour_outliers(images)
        yield from _size_outliers(images)


def _visibility_problems(decoded: DecodedImage) -> Iterator[Problem]:
    image = decoded.image
    width, height = image.size
    if decoded.pages > 1:
        message = f"has {decoded.pages} pages or frames of this size, only the first is used; save each as a file of its own"
        yield Problem("", "several pages", message, "warning")
    if decoded.is_transparent:
        message = "has transparent pixels, whose hidden colours are used as if they were visible; save it without transparency"
        yield Problem("", "transparency", message, "warning")
    if min(width, height) < MIN_SIDE:
        message = (
            f"is {width} x {height} pixels; at least {MIN_SIDE} a side are needed to show a defect; export it larger or remove it"
        )
        yield Problem("", "tiny", message, "warning")
    ranges = np.reshape(image.getextrema(), (-1, 2))
    if np.ptp(ranges, axis=1).max() <= ONE_COLOUR:
        colour = ", ".join(map(str, ranges[:, 0]))
        message = f"has only one colour ({colour}) and shows no object; check the camera, remove the image"
        yield Problem("", "one colour", message, "warning")


def _has_colour(thumbnail: Image.Image) -> bool | None:
    """Whether an image has colour; None if its channels differ slightly, as in colour photographs of grey objects."""
    if thumbnail.mode == "L":
        return False
    red, green, blue = (np.asarray(channel) for channel in thumbnail.split())  # ten times faster than along the last axis
    highest, lowest = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
    channel_range = int((highest - lowest).max())
    return False if channel_range <= GREY else True if channel_range >= COLOURED else None


def _colour_outliers(images: Sequence[InspectedImage]) -> Iterator[Problem]:
    counts = Counter(image.has_colour for image in images if image.has_colour is not None)
    if len(counts) < 2:
        return
    rare = counts[True] <= counts[False]
    names = {True: "in colour", False: "grey"}
    for image in images:
        if image.has_colour is rare:
            message = (
                f"is {names[rare]}, but {counts[not rare]} other images are {names[not rare]}; "
                "all images should come from the same kind of camera; convert it or remove it"
            )
            yield Problem(image.sample.id, "mode", message, "warning")


def _size_outliers(images: Sequence[InspectedImage]) -> Iterator[Problem]:
    sizes = np.log([image.size for image in images])
    shape, area = sizes[:, 0] - sizes[:, 1], sizes.sum(axis=1)
    is_outlier = _are_far(shape, MAX_SHAPE_RATIO) | _are_far(area, MAX_AREA_RATIO)
    width, height = np.exp((np.median(area) + np.array([1, -1]) * np.median(shape)) / 2)
    for image, unusual in zip(images, is_outlier, strict=True):
        if unusual:
            message = (
                f"is {image.size[0]} x {image.size[1]} pixels, but the median image is {width:.0f} x {height:.0f}; all are "
                "resized to the same square, which distorts this one differently; check that it belongs to the data set"
            )
            yield Problem(image.sample.id, "size", message, "warning")


def _are_far(values: np.ndarray, factor: float) -> np.ndarray:
    """Whether logarithmic values are far from their median."""
    distance = np.abs(values - np.median(values))
    is_far: np.ndarray = distance > max(np.log(factor), SPREAD * float(np.quantile(distance, 0.75)))
    return is_far
