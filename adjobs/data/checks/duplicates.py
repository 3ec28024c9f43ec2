"""Near duplicates: an image saved again, scaled, brightened or shifted slightly, or the same object photographed twice.

Candidates are pairs whose perceptual hashes differ in few bits. In data sets where all images have the same layout (solar cells,
tiles), hashes alone are not specific, so a pair counts only if its fine detail agrees as well, block by block: cracks and
crystals, grain and scratches.

The constants were chosen on ELPV (2624 images) and the magnetic tiles (1344), with 300 images of each copied in four ways: JPEG
of quality 70, scaled to 90 %, 5 % brighter, all three. Every copy is detected; of those shifted by 1 %, 91 % are detected in ELPV
and 98 % of the tiles (or the same tile under another exposure). Of 898,195 pairs of tiles with different names, 33 are reported
as near duplicates; none of those that were inspected shows two different tiles. In ELPV 732 pairs are reported; the 30 that were
inspected show one crystal, in cells cut next to each other or photographed twice.
"""

from __future__ import annotations

import errno
import os
import tempfile
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import fft, ndimage

from adjobs.parallel import in_threads
from adjobs.storage.base import disk_errors

SIDE = 128
"""Side in pixels of the thumbnail whose detail is compared. At 96 and 64, grain is blurred and similar layouts look equal."""

BITS = 10
"""Bits of 64 in which the hashes of a candidate pair may differ: copies differ in up to 10, and so do 91 % of shifted ones."""

NEIGHBOURS = 8
"""Maximum number of candidates for one image, nearest first; a copy's original was never further back than third."""

SIMILARITY = 0.4
"""Minimum similarity of near duplicates: copies have 0.45 and more, nine in ten candidates that are none have less than 0.13."""

_MAX_SHIFT = 3  # pixels of the thumbnail by which one image may be shifted, 2 % of its side
_BLOCK = 8  # pixels: agreement is computed in 16 x 16 blocks, so that one strong edge does not dominate
_MIN_DETAIL = 0.5  # grey levels; a block with less detail is ignored
_MIN_BLOCKS = 8  # blocks with detail; with fewer, images are not comparable
_DETAIL_SCALE = 4  # of the stored detail, whose mean size in smooth images is below one grey level
_TYPICAL_PAIRS = 500
_MAX_TYPICAL = 0.9  # if most images agree better than this, they are copies of each other
_MAX_DISTANCES = 2**22  # computed at a time, about 100 MiB
_CHUNK = 64  # pairs compared at a time, 16 MiB


class Descriptor(NamedTuple):
    """What is kept of an image for comparison.

    Attributes:
        hash: perceptual hash (discrete cosine transform), 64 bits.
        detail: ``(SIDE, SIDE)`` int8, in quarters of a grey level: the thumbnail minus its own blur; or where it is stored.
    """

    hash: int
    detail: np.ndarray | StoredDetail

    def load_detail(self) -> np.ndarray:
        """The detail, from its file if it is stored in one."""
        return self.detail.load() if isinstance(self.detail, StoredDetail) else self.detail


class StoredDetail(NamedTuple):
    """A detail in a :class:`DetailFile`, at this position in bytes."""

    file: DetailFile
    position: int

    def load(self) -> np.ndarray:
        """The detail, ``(SIDE, SIDE)`` int8."""
        return self.file.read(self.position)


class DetailFile:
    """Details of the images of a large data set, in a temporary file that is deleted with this object."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (closed with this object)
        self._lock = threading.Lock()
        self._end = 0

    def __del__(self) -> None:
        self._file.close()

    def store(self, descriptor: Descriptor) -> Descriptor:
        """The descriptor, with its detail in the file; may be called in several threads.

        Raises:
            StorageError: the file cannot be written.
        """
        data = descriptor.load_detail().tobytes()
        with self._lock:
            position, self._end = self._end, self._end + len(data)
        with disk_errors("write", Path(tempfile.gettempdir())):
            written = os.pwrite(self._file.fileno(), data, position)
            if written < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return Descriptor(descriptor.hash, StoredDetail(self, position))

    def read(self, position: int) -> np.ndarray:
        """The detail at a position."""
        data = os.pread(self._file.fileno(), SIDE * SIDE, position)
        return np.frombuffer(data, dtype=np.int8).reshape(SIDE, SIDE)


class Match(NamedTuple):
    """The most similar image in another split.

    Attributes:
        image_index: its index in the list of images.
        similarity: at most 1.
    """

    image_index: int
    similarity: float


def describe(image: Image.Image) -> Descriptor:
    """Compute the descriptor of an image, which may be given as a thumbnail with ``SIDE`` pixels a side."""
    import imagehash

    thumbnail = image.convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    grey = np.asarray(thumbnail, dtype=np.float32)
    detail = np.clip(np.round(_DETAIL_SCALE * (grey - ndimage.gaussian_filter(grey, 1.0))), -127, 127).astype(np.int8)
    bits = imagehash.phash(thumbnail).hash
    return Descriptor(int.from_bytes(np.packbits(bits).tobytes(), "big"), detail)


def similarity(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """How well the details of images agree, pair by pair.

    The second image of a pair is shifted by up to 2 % to its best fit. The result is the lower quartile of the blocks'
    correlations, over all blocks with detail: three quarters of the image must agree at least this well.

    Args:
        first: ``(P, SIDE, SIDE)``, details of :class:`Descriptor`.
        second: as ``first``.

    Returns:
        ``(P,)`` in [-1, 1]; -1 if fewer than eight blocks have detail.
    """
    a, b = (values.astype(np.float32) / _DETAIL_SCALE for values in (first, second))
    a, b = _blocks(a), _blocks(_align(a, b))
    a, b = a - a.mean(axis=2, keepdims=True), b - b.mean(axis=2, keepdims=True)
    power_a, power_b = (a * a).mean(axis=2), (b * b).mean(axis=2)
    correlation = (a * b).mean(axis=2) / np.sqrt(power_a * power_b + 1e-12)
    has_detail = (power_a + power_b) / 2 >= _MIN_DETAIL**2
    # Blocks without detail are sorted to the end.
    ordered = np.sort(np.where(has_detail, correlation, np.inf), axis=1)
    count = has_detail.sum(axis=1)
    quartile = ordered[np.arange(len(ordered)), np.maximum(count - 1, 0) // 4]
    return np.where(count >= _MIN_BLOCKS, quartile, -1.0)


def find_across_splits(
    descriptors: Sequence[Descriptor], splits: Sequence[str], groups: Sequence[str], *, progress: bool = False
) -> dict[int, Match]:
    """Find near duplicates in different splits.

    The required similarity rises if most pairs of images agree in much of their detail, for example when a fixture holds
    every workpiece in the same position.

    Args:
        descriptors: descriptors of all images.
        splits: name of the split of each image.
        groups: name of the group of each image; images of the same group are not compared.
        progress: show a progress bar on a terminal's standard error.

    Returns:
        The most similar image, for the index of each image with a near duplicate in another split.
    """
    if not descriptors:
        return {}
    matches: dict[int, Match] = {}
    for first, second, value in find_pairs(descriptors, (splits, groups), progress=progress):
        for image, duplicate in ((first, second), (second, first)):
            if image not in matches or matches[image].similarity < value:
                matches[image] = Match(duplicate, value)
    return matches


def find_pairs(
    descriptors: Sequence[Descriptor],
    names: Sequence[Sequence[str]],
    images: Sequence[int] | None = None,
    *,
    progress: bool = False,
) -> list[tuple[int, int, float]]:
    """Pairs of near duplicates that differ in all of several names, such as those of their splits and groups.

    Args:
        descriptors: descriptors of all images.
        names: for each kind of name those of all images; images of the same name are not compared. The last is the group's.
        images: indices of those that are compared with all; None for all.
        progress: show a progress bar on a terminal's standard error.

    Returns:
        Two indices, the smaller first, and the similarity.
    """
    codes = [np.unique(np.array(kind), return_inverse=True)[1] for kind in names]
    hashes = np.array([descriptor.hash for descriptor in descriptors], dtype=np.uint64)
    pairs = _candidates(hashes, codes, np.arange(len(hashes)) if images is None else np.array(images, dtype=np.int64))
    if not len(pairs):
        return []
    similarities = _compare(descriptors, pairs, progress)
    typical = _typical_similarity(descriptors, codes[-1])
    return [
        (int(pairs[i, 0]), int(pairs[i, 1]), float(similarities[i]))
        for i in np.flatnonzero(similarities >= typical + (1 - typical) * SIMILARITY)
    ]


def _candidates(hashes: np.ndarray, all_codes: Sequence[np.ndarray], images: np.ndarray) -> np.ndarray:
    """Pairs ``(P, 2)`` of some images with all that differ in all codes and whose hashes are close; every pair once."""
    pairs = [np.empty((0, 2), dtype=np.int64)]
    rows = max(1, min(256, _MAX_DISTANCES // max(1, len(hashes))))
    for start in range(0, len(images), rows):
        chunk = images[start : start + rows]
        distance = np.bitwise_count(hashes[chunk, None] ^ hashes[None]).astype(np.uint8)
        for codes in all_codes:
            distance[codes[chunk, None] == codes[None]] = 255
        nearest = np.argpartition(distance, min(NEIGHBOURS, len(hashes)) - 1, axis=1)[:, :NEIGHBOURS]
        is_close = np.take_along_axis(distance, nearest, axis=1) <= BITS
        pairs.append(np.sort(np.column_stack([np.repeat(chunk, is_close.sum(axis=1)), nearest[is_close]]), axis=1))
    return np.unique(np.concatenate(pairs), axis=0)


def _typical_similarity(descriptors: Sequence[Descriptor], group_codes: np.ndarray) -> float:
    """Similarity that one in ten random pairs of different groups exceeds; 0 if nearly all images are one group."""
    pairs = np.random.default_rng(0).integers(len(descriptors), size=(_TYPICAL_PAIRS, 2))
    pairs = pairs[group_codes[pairs[:, 0]] != group_codes[pairs[:, 1]]]
    if not len(pairs):
        return 0.0
    similarities = _compare(descriptors, pairs, progress=False)
    return float(np.clip(np.quantile(similarities, 0.9), 0, _MAX_TYPICAL))


def _compare(descriptors: Sequence[Descriptor], pairs: np.ndarray, progress: bool) -> np.ndarray:
    chunks = [pairs[start : start + _CHUNK] for start in range(0, len(pairs), _CHUNK)]
    compare_chunk = partial(_compare_chunk, descriptors)
    return np.concatenate(in_threads(compare_chunk, chunks, text="comparing", progress=progress))


def _compare_chunk(descriptors: Sequence[Descriptor], pairs: np.ndarray) -> np.ndarray:
    first, second = (np.stack([descriptors[i].load_detail() for i in indices]) for indices in pairs.T)
    return similarity(first, second)


def _align(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The second images, each shifted by the few pixels at which its correlation with the first is largest."""
    product = fft.rfft2(b) * np.conj(fft.rfft2(a))
    steps = np.arange(-_MAX_SHIFT, _MAX_SHIFT + 1)
    correlation = fft.irfft2(product, s=a.shape[1:])[:, steps[:, None], steps]
    rows, columns = np.divmod(correlation.reshape(len(a), -1).argmax(axis=1), len(steps))
    shifts = zip(b, steps[rows], steps[columns], strict=True)
    return np.stack([np.roll(image, (-down, -right), axis=(0, 1)) for image, down, right in shifts])


def _blocks(images: np.ndarray) -> np.ndarray:
    """Cut ``(P, SIDE, SIDE)`` into ``(P, blocks, pixels)``."""
    n = SIDE // _BLOCK
    blocks = images.reshape(len(images), n, _BLOCK, n, _BLOCK).transpose(0, 1, 3, 2, 4)
    return blocks.reshape(len(images), n * n, _BLOCK * _BLOCK)
