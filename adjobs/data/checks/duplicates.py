"""Near duplicates: one picture saved again, scaled, brightened or shifted a little, or one thing taken twice.

Candidates are pairs whose perceptual hashes differ in few bits. Where all pictures are laid out alike (solar cells, tiles), that
says little, so a pair counts only if the fine detail agrees as well, place by place: cracks and crystals, grain and scratches.

The numbers were chosen on ELPV (2624 pictures) and the magnetic tiles (1344), 300 pictures of each copied in four ways: JPEG of
quality 70, scaled to 90 %, 5 % brighter, all three. Every copy is found; of those shifted by 1 %, 91 % are found in ELPV and 98 %
of the tiles (or the same tile under another exposure). Of 898,195 pairs of tiles with different names 33 are called near
duplicates; none that was looked at shows two. In ELPV 732 pairs are; the 30 that were looked at show one crystal, in cells cut
next to each other or photographed twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import fft, ndimage

from adjobs.parallel import in_threads

SIDE = 128
"""Side of the small picture whose detail is compared, in pixels. At 96 and 64 grain is blurred and alike layouts look equal."""

BITS = 10
"""Bits of 64 in which the hashes of a candidate pair may differ: copies differ in up to 10, 91 % of those shifted by 1 %, too."""

NEIGHBOURS = 8
"""Candidates for one picture at most, nearest first; a copy's original was never further back than third."""

SIMILARITY = 0.4
"""Least similarity of near duplicates: copies have 0.45 and more, nine in ten candidates that are none have less than 0.13."""

_SHIFT = 3  # pixels of the small picture by which one may be shifted, 2 % of its side
_BLOCK = 8  # pixels: agreement is measured in 16 x 16 blocks, so that one strong edge does not decide for all
_FAINT = 0.5  # grey levels; a block with less detail than this says nothing
_FEW = 8  # blocks with detail; fewer say nothing
_SCALE = 4  # of the stored detail, whose mean size on smooth pictures is below one grey level
_TYPICAL_PAIRS = 500
_MOST_TYPICAL = 0.9  # where most pictures agree better than this, they are copies of each other
_CHUNK = 64  # pairs compared at a time, 16 MiB


class Look(NamedTuple):
    """What is kept of a picture to compare it.

    Attributes:
        hash: perceptual hash (discrete cosine transform), 64 bits.
        detail: ``(SIDE, SIDE)`` int8, quarters of a grey level: the small picture less its own blur.
    """

    hash: int
    detail: np.ndarray


class Match(NamedTuple):
    """The most similar picture in another part: its place in the list, and the similarity, at most 1."""

    other: int
    similarity: float


def look(image: Image.Image) -> Look:
    """Take the look of a picture, which may be a small version of it with ``SIDE`` pixels a side."""
    import imagehash

    small = image.convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    grey = np.asarray(small, dtype=np.float32)
    detail = np.clip(np.round(_SCALE * (grey - ndimage.gaussian_filter(grey, 1.0))), -127, 127).astype(np.int8)
    bits = imagehash.phash(small).hash
    return Look(int.from_bytes(np.packbits(bits).tobytes(), "big"), detail)


def similarity(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """How well the details of pictures agree, pair by pair.

    The second is moved by up to 2 % to where it fits best. In each block the correlation is taken, and of all blocks with
    detail the lower quartile: three quarters of the picture must agree at least so well.

    Args:
        first: ``(P, SIDE, SIDE)``, details of :class:`Look`.
        second: as ``first``.

    Returns:
        ``(P,)`` in [-1, 1]; -1 where fewer than eight blocks have detail.
    """
    a, b = (values.astype(np.float32) / _SCALE for values in (first, second))
    a, b = _blocks(a), _blocks(_moved(a, b))
    a, b = a - a.mean(axis=2, keepdims=True), b - b.mean(axis=2, keepdims=True)
    power_a, power_b = (a * a).mean(axis=2), (b * b).mean(axis=2)
    correlation = (a * b).mean(axis=2) / np.sqrt(power_a * power_b + 1e-12)
    telling = (power_a + power_b) / 2 >= _FAINT**2
    # Blocks that say nothing go to the end, behind those that count.
    ordered = np.sort(np.where(telling, correlation, np.inf), axis=1)
    count = telling.sum(axis=1)
    quartile = ordered[np.arange(len(ordered)), np.maximum(count - 1, 0) // 4]
    return np.where(count >= _FEW, quartile, -1.0)


def across(looks: Sequence[Look], parts: Sequence[str], kin: Sequence[str], *, progress: bool = False) -> dict[int, Match]:
    """Near duplicates in different parts.

    What is demanded rises where any two pictures agree in much of their detail, as in a fixture that holds each part alike.

    Args:
        looks: of all pictures.
        parts: of each picture.
        kin: of each picture, a name; pictures of one name are not compared.
        progress: show a progress bar on a terminal's standard error.

    Returns:
        For each picture with a near duplicate in another part, by its place, the most similar one.
    """
    if not looks:
        return {}
    names = [np.unique(np.array(values), return_inverse=True)[1] for values in (parts, kin)]
    pairs = _candidates(np.array([each.hash for each in looks], dtype=np.uint64), names)
    if not len(pairs):
        return {}
    alike = _compare(looks, pairs, progress)
    typical = _typical(looks, names[1])
    found: dict[int, Match] = {}
    for index in np.flatnonzero(alike >= typical + (1 - typical) * SIMILARITY):
        for one, other in (pairs[index], pairs[index][::-1]):
            if int(one) not in found or found[int(one)].similarity < alike[index]:
                found[int(one)] = Match(int(other), float(alike[index]))
    return found


def _candidates(hashes: np.ndarray, names: list[np.ndarray]) -> np.ndarray:
    """Pairs ``(P, 2)`` of pictures that differ in all names and whose hashes are near; every pair once."""
    pairs = [np.empty((0, 2), dtype=np.int64)]
    for start in range(0, len(hashes), 256):
        rows = np.arange(start, min(start + 256, len(hashes)))
        distance = np.bitwise_count(hashes[rows, None] ^ hashes[None]).astype(np.uint8)
        for name in names:
            distance[name[rows, None] == name[None]] = 255
        nearest = np.argpartition(distance, min(NEIGHBOURS, len(hashes)) - 1, axis=1)[:, :NEIGHBOURS]
        near = np.take_along_axis(distance, nearest, axis=1) <= BITS
        pairs.append(np.sort(np.column_stack([np.repeat(rows, near.sum(axis=1)), nearest[near]]), axis=1))
    return np.unique(np.concatenate(pairs), axis=0)


def _typical(looks: Sequence[Look], kin: np.ndarray) -> float:
    """Similarity that one in ten pairs of different pictures exceeds, by a sample of pairs; 0 where one group is nearly all."""
    pairs = np.random.default_rng(0).integers(len(looks), size=(_TYPICAL_PAIRS, 2))
    pairs = pairs[kin[pairs[:, 0]] != kin[pairs[:, 1]]]
    if not len(pairs):
        return 0.0
    alike = _compare(looks, pairs, progress=False)
    return float(np.clip(np.quantile(alike, 0.9), 0, _MOST_TYPICAL))


def _compare(looks: Sequence[Look], pairs: np.ndarray, progress: bool) -> np.ndarray:
    chunks = [pairs[start : start + _CHUNK] for start in range(0, len(pairs), _CHUNK)]
    compare = partial(_similarities, looks)
    return np.concatenate(in_threads(compare, chunks, text="comparing", progress=progress))


def _similarities(looks: Sequence[Look], pairs: np.ndarray) -> np.ndarray:
    first, second = (np.stack([looks[place].detail for place in places]) for places in pairs.T)
    return similarity(first, second)


def _moved(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The second pictures, each moved by the few pixels at which its correlation with the first is largest."""
    product = fft.rfft2(b) * np.conj(fft.rfft2(a))
    steps = np.arange(-_SHIFT, _SHIFT + 1)
    correlation = fft.irfft2(product, s=a.shape[1:])[:, steps[:, None], steps]
    rows, columns = np.divmod(correlation.reshape(len(a), -1).argmax(axis=1), len(steps))
    moves = zip(b, steps[rows], steps[columns], strict=True)
    return np.stack([np.roll(picture, (-down, -right), axis=(0, 1)) for picture, down, right in moves])


def _blocks(pictures: np.ndarray) -> np.ndarray:
    """``(P, SIDE, SIDE)`` cut into ``(P, blocks, pixels)``."""
    n = SIDE // _BLOCK
    cut = pictures.reshape(len(pictures), n, _BLOCK, n, _BLOCK).transpose(0, 1, 3, 2, 4)
    return cut.reshape(len(pictures), n * n, _BLOCK * _BLOCK)
