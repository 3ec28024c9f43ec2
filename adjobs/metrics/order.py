"""Defect-free pixels in order: the one sort that all exact pixel metrics are read from.

A metric changes only at thresholds that a defect pixel reaches. So the defect-free pixels, nearly all of them, are sorted by
themselves, without labels or indices, and looked up at the distinct scores of the defect pixels. They are sorted in chunks, one
per core, whose counts add up: NumPy releases Python's lock while it sorts and searches, and nothing has to be merged.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adjobs.parallel import cores, in_threads

MIN_GPU_BYTES = 2**24
GPU_BYTES_PER_BYTE = 8  # pixels, masks, their selection, and what sorting takes
Counts = NDArray[np.int64]
Images = Sequence[NDArray[Any]] | NDArray[Any]
# Sorts the defect-free pixels of some images; counts how many of them are at most, and how many below, each threshold.
Sort = Callable[[Images, Images], Any]
Search = Callable[[Any, NDArray[Any]], tuple[Counts, Counts]]


class Ranks(NamedTuple):
    """Where the K distinct scores of defect pixels stand among F defect-free pixels.

    Attributes:
        thresholds: ``(K,)`` distinct scores of defect pixels, ascending.
        inverse: ``(D,)`` index of each defect pixel's score, image after image, in the order of ``map[mask]``.
        hits: ``(K,)`` defect pixels with exactly that score, D in all.
        above: ``(K,)`` defect-free pixels strictly above the threshold.
        reaching: ``(K,)`` defect-free pixels that reach it.
        n_free: F.
    """

    thresholds: NDArray[Any]
    inverse: NDArray[np.intp]
    hits: Counts
    above: Counts
    reaching: Counts
    n_free: int

    def auroc(self) -> float:
        """Area under the ROC curve, ties counted half, in [0, 1]."""
        # Twice the number of (defect, free) pairs in the right order: an exact integer.
        twice_ordered = int(np.dot(self.hits, 2 * self.n_free - self.above - self.reaching))
        return twice_ordered / (2 * self.inverse.size * self.n_free)

    def ap(self) -> float:
        """Average precision, in (0, 1]."""
        detected = self._detected()
        return float(np.dot(self.hits, detected / (detected + self.reaching)) / self.inverse.size)

    def f1_max(self) -> tuple[float, float]:
        """The best F1 of any threshold, and the highest threshold that reaches it."""
        detected = self._detected()
        f1 = 2 * detected / (self.inverse.size + detected + self.reaching)
        best = len(f1) - 1 - int(np.argmax(f1[::-1]))
        return float(f1[best]), float(self.thresholds[best])

    def _detected(self) -> Counts:
        """Defect pixels that reach each threshold."""
        return np.cumsum(self.hits[::-1])[::-1]


class FreePixels:
    """The defect-free pixels of some images, sorted.

    With ``device`` by PyTorch on that device, and many pixels on the GPU that the process computes on already, if there is one.
    """

    def __init__(self, maps: Images, masks: Images, device: str | None = None) -> None:
        """Sort the pixels of ``maps`` (N images of finite floating-point scores) outside ``masks`` (their defect pixels)."""
        device = device or _gpu_in_use(sum(each.nbytes for each in maps))
        sort, self._search = _numpy() if device is None else _torch(device)
        chunks = cores() if device is None else 1
        bounds = np.linspace(0, len(maps), min(chunks, len(maps)) + 1).astype(int)
        slices = [slice(start, stop) for start, stop in pairwise(bounds)]
        self._chunks = in_threads(lambda images: sort(maps[images], masks[images]), slices, text="sort")
        self.size = sum(len(chunk) for chunk in self._chunks)

    def exceedances(self, thresholds: NDArray[Any]) -> tuple[Counts, Counts]:
        """Count the pixels strictly above each of the thresholds ``(K,)`` and those that reach it, ``(K,)`` each."""
        above, reaching = np.zeros((2, len(thresholds)), dtype=np.int64)
        counts = in_threads(lambda chunk: self._search(chunk, thresholds), self._chunks, text="count")
        for chunk, (at_most, below) in zip(self._chunks, counts, strict=True):
            above += len(chunk) - at_most
            reaching += len(chunk) - below
        return above, reaching


def rank(maps: Images, masks: Images, *, beside: FreePixels | None = None, device: str | None = None) -> Ranks | None:
    """Rank the defect pixels among the defect-free ones, with one sort.

    Args:
        maps: N images of finite floating-point scores of one type, ``(H, W)`` each.
        masks: bool, of the same shapes, True on defect pixels.
        beside: defect-free pixels of other images, which count as well.
        device: where to sort; None: see `FreePixels`.

    Returns:
        None without defect pixels or without defect-free ones.
    """
    defect = scores_in_masks(maps, masks)
    if not defect.size:
        return None
    free = [FreePixels(maps, masks, device)] + ([] if beside is None else [beside])
    size = sum(pixels.size for pixels in free)
    if not size:
        return None
    thresholds, inverse, hits = np.unique(defect, return_inverse=True, return_counts=True)
    above, reaching = np.sum([pixels.exceedances(thresholds) for pixels in free], axis=0)
    return Ranks(thresholds, inverse, hits, above, reaching, size)


def scores_in_masks(maps: Images, masks: Images) -> NDArray[Any]:
    """The scores of the pixels in the masks, image after image."""
    if not len(maps):
        return np.empty(0, dtype=np.float32)
    return np.concatenate([anomaly_map[mask] for anomaly_map, mask in zip(maps, masks, strict=True)])


def exceedances(scores: NDArray[Any], thresholds: NDArray[Any]) -> tuple[Counts, Counts]:
    """Count, for each of the thresholds ``(K,)``, the scores strictly above it and those that reach it, ``(K,)`` each.

    ``scores`` ``(N,)`` of the same type is sorted in place, which saves a copy of millions of pixels.
    """
    scores.sort()
    at_most, below = _search(scores, thresholds)
    return scores.size - at_most, scores.size - below


def _search(ascending: NDArray[Any], thresholds: NDArray[Any]) -> tuple[Counts, Counts]:
    return ascending.searchsorted(thresholds, side="right"), ascending.searchsorted(thresholds, side="left")


def _numpy() -> tuple[Sort, Search]:
    def sort(maps: Images, masks: Images) -> NDArray[Any]:
        free = np.concatenate([anomaly_map[~mask] for anomaly_map, mask in zip(maps, masks, strict=True)])
        free.sort()
        return free

    return sort, _search


def _torch(device: str) -> tuple[Sort, Search]:
    import torch

    def to_device(array: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(np.require(array, requirements=["C", "W"])).to(device)

    def free_pixels(anomaly_maps: NDArray[Any], masks: NDArray[Any]) -> torch.Tensor:
        return to_device(anomaly_maps)[~to_device(masks)]

    def sort(maps: Images, masks: Images) -> torch.Tensor:
        if isinstance(maps, np.ndarray) and isinstance(masks, np.ndarray):
            return free_pixels(maps, masks).sort().values
        return torch.cat([free_pixels(*image) for image in zip(maps, masks, strict=True)]).sort().values

    def search(free: torch.Tensor, thresholds: NDArray[Any]) -> tuple[Counts, Counts]:
        values = to_device(thresholds)
        return torch.searchsorted(free, values, right=True).cpu().numpy(), torch.searchsorted(free, values).cpu().numpy()

    return sort, search


def _gpu_in_use(size: int) -> str | None:
    """The GPU that this process computes on already, if sorting so many bytes there is worth a copy and fits."""
    if size < MIN_GPU_BYTES or "torch" not in sys.modules:  # importing PyTorch takes longer than sorting on a processor
        return None
    from adjobs import devices

    gpu = devices.gpu_in_use()
    return None if gpu is None or devices.free_bytes(gpu) < GPU_BYTES_PER_BYTE * size else str(gpu)
