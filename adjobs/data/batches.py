"""Training batches out of the decoded cache: which images, in which order, on which worker.

The order depends on the seed, the stage and the epoch alone, and the global batch is cut into equal shares, so that any number
of workers sees the same global batches (but for an epoch's last one, which is cut to equal shares), and a resumed run goes on
where it stopped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from adjobs.data.cache.build_once import open_or_build
from adjobs.data.cache.images import ImageCache
from adjobs.data.dataset import Dataset
from adjobs.data.labels.masks import ANOMALOUS, UNKNOWN, LabelDetail, coarsen
from adjobs.errors import DataError, StorageError, one_line
from adjobs.types import Batch

T = TypeVar("T")


@dataclass(frozen=True)
class SamplePool:
    """Samples of one kind, as rows of the cache."""

    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def shuffled(self, *entropy: int) -> np.ndarray:
        """All rows in an order given by ``entropy``."""
        order: np.ndarray = np.random.default_rng(entropy).permutation(self.rows)
        return order

    def draw(self, count: int, step: int, *entropy: int) -> np.ndarray:
        """``count`` rows for the ``step``-th time: one shuffled pass after the other, without end."""
        position = np.arange(step * count, (step + 1) * count)
        passes = {p: self.shuffled(*entropy, int(p)) for p in np.unique(position // len(self))}
        return np.array([passes[p][i] for p, i in zip(position // len(self), position % len(self), strict=True)], dtype=np.int64)


class TrainingData:
    """The training part of a data set on one worker."""

    def __init__(
        self,
        cache: ImageCache,
        index: Dataset,
        part: Sequence[str],
        device: torch.device,
        *,
        label_detail: LabelDetail = "full",
        block: int = 8,
    ) -> None:
        self._cache = cache
        self._device = device
        self._label_detail, self._block = label_detail, block
        self._part = tuple(part)
        classes = {sample.id: int(sample.label == "anomalous") for sample in index.samples}
        rows = np.array([cache.index_of[name] for name in part], dtype=np.int64)
        self._label = {int(row): classes[name] for row, name in zip(rows, part, strict=True)}
        self._label_row = {cache.index_of[name]: cache.label_index_of[name] for name in part if name in cache.label_index_of}
        anomalous = np.array([classes[name] for name in part], dtype=bool)
        self.all_labels_pool, self.normal_pool, self.anomalous_pool = (
            SamplePool(rows),
            SamplePool(rows[~anomalous]),
            SamplePool(rows[anomalous]),
        )

    @property
    def n_normal(self) -> int:
        """Number of normal training images."""
        return len(self.normal_pool)

    @property
    def n_anomalous(self) -> int:
        """Number of labelled anomalies in the training part."""
        return len(self.anomalous_pool)

    def normal(self, size: int) -> Iterator[Batch]:
        """All normal images in order, in batches of up to ``size``, for work without gradients."""
        return self._in_order(self.normal_pool, size)

    def anomalous(self, size: int) -> Iterator[Batch]:
        """All labelled anomalies in order, in batches of up to ``size``, for work without gradients."""
        return self._in_order(self.anomalous_pool, size)

    def _in_order(self, pool: SamplePool, size: int) -> Iterator[Batch]:
        nothing = torch.Generator(self._device)
        for start in range(0, len(pool), size):
            rows = pool.rows[start : start + size]
            yield self.load(rows, np.zeros(len(rows), dtype=bool), nothing)

    def derived(self, name: str, key: Mapping[str, Any], read: Callable[[Path], T | None], build: Callable[[Path], None]) -> T:
        """What is computed from this part once and kept on this machine for every run of the same part and size.

        Args:
            name: what it is, for the folder's name.
            key: all that it depends on beside the images of the part and their size; what JSON can hold.
            read: opens the folder; None where it is not there or damaged.
            build: fills a new folder.

        Raises:
            StorageError: it cannot be written.
        """
        whole = json.dumps([self._part, dict(key)], sort_keys=True)
        folder = self._cache.derived / f"{name}-{hashlib.sha256(whole.encode()).hexdigest()[:16]}"
        try:
            return open_or_build(folder, read, build, doing=f"computes the same {name}")
        except OSError as error:
            raise StorageError(
                f"{folder}: cannot be written ({error.strerror or one_line(error)}); free space there or choose another cache "
                "folder (ADJOBS_CACHE)"
            ) from error

    def plan(self, mix: tuple[int, int, int, int], world: int, size_params: Sequence[str] = ("batch_size",)) -> BatchPlan:
        """Lay out the batches of a stage.

        Args:
            mix: global counts (natural, normal, simulated, anomalous), see :class:`adjobs.methods.contract.BatchComposition`.
            world: number of workers.
            sized_by: parameters that set the mix, for what is said where it does not fit.

        Raises:
            DataError: the training part lacks what the mix asks for, or the batch cannot be shared among the workers.
        """
        all_labels, normal, simulated, anomalous = mix
        settings = " or ".join(f"params.{name}" for name in size_params)
        if anomalous and not len(self.anomalous_pool):
            raise DataError(
                "the method asks for labelled anomalies in each batch, the training part has none; label some or change params"
            )
        pool, per_step = (self.all_labels_pool, all_labels) if all_labels else (self.normal_pool, normal + simulated)
        if per_step % world or anomalous % world:
            raise DataError(
                f"a global batch of {per_step} + {anomalous} labelled anomalies cannot be shared equally by {world} workers; "
                f"choose {settings} or train.workers so that it can"
            )
        per_step = min(per_step, len(pool) // world * world)  # a part smaller than one batch is one batch
        if not per_step or per_step + anomalous < 2 * world:
            raise DataError(
                f"a global batch has {per_step + anomalous} images, each of {world} workers needs at least 2; "
                f"use fewer workers, a larger {settings}, or more training images ({len(pool)} now)"
            )
        return BatchPlan(self, mix, pool, per_step, world)

    def load(self, rows: np.ndarray, simulate: np.ndarray, generator: torch.Generator) -> Batch:
        """The batch of these cache rows on the device."""
        images = to_float(self._cache.images[rows], self._device)
        labels = torch.tensor([self._label[int(row)] for row in rows], device=self._device)
        masks, unknown = (torch.zeros(len(rows), 1, *images.shape[-2:], dtype=torch.bool, device=self._device) for _ in range(2))
        for i, row in enumerate(map(int, rows)):
            if self._label[row]:  # of a normal image there is nothing to say
                pixels = torch.from_numpy(self._pixel_labels(row)).to(self._device)
                masks[i, 0], unknown[i, 0] = pixels == ANOMALOUS, pixels == UNKNOWN
        marked, which = (torch.from_numpy(array).to(self._device) for array in (simulate, rows))
        return Batch(images, labels, masks, unknown, marked, which, generator)

    def _pixel_labels(self, row: int) -> np.ndarray:
        """What the training may know of each pixel of an anomalous image, ``(size, size)`` uint8."""
        if row not in self._label_row:
            return np.full(self._cache.images.shape[1:3], UNKNOWN, dtype=np.uint8)
        return coarsen(np.array(self._cache.labels[self._label_row[row]]), self._label_detail, self._block)


@dataclass(frozen=True)
class BatchPlan:
    """The batches of one stage."""

    data: TrainingData
    mix: tuple[int, int, int, int]
    pool: SamplePool
    per_step: int
    world: int

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one pass over the pool; a last batch that leaves a worker fewer than two images is dropped.

        Batch normalisation cannot learn from one image.
        """
        full, rest = divmod(len(self.pool), self.per_step)
        return full + int(rest >= 2 * self.world)

    def global_size(self, step: int) -> int:
        """Number of images in the global batch of ``step`` (counted from the stage's first)."""
        left = len(self.pool) - step % self.steps_per_epoch * self.per_step
        return min(self.per_step, left) // self.world * self.world + self.mix[3]

    def batch(self, step: int, *, seed: int, stage: int, rank: int, device: torch.device) -> Batch:
        """This worker's share of the global batch of ``step``, with its generator."""
        rows, simulate = self._rows(step, seed, stage)
        entropy = np.random.SeedSequence([seed, stage, step, rank]).generate_state(2, np.uint32)
        generator = torch.Generator(device).manual_seed(int(entropy[0]) << 31 | int(entropy[1]) >> 1)
        share = slice(rank, None, self.world)
        return self.data.load(rows[share], simulate[share], generator)

    def _rows(self, step: int, seed: int, stage: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the global batch, and which of them are to be simulated on."""
        all_labels, normal, simulated, anomalous = self.mix
        epoch, i = divmod(step, self.steps_per_epoch)
        rows = self.pool.shuffled(seed, stage, epoch)[i * self.per_step : (i + 1) * self.per_step]
        rows = rows[
            : len(rows) // self.world * self.world
        ]  # equal shares, so that averaging over workers is averaging over images
        simulate = np.zeros(len(rows), dtype=bool)
        if not all_labels:
            simulate[round(len(rows) * normal / (normal + simulated)) :] = True
        if anomalous:
            extra = self.data.anomalous_pool.draw(anomalous, step, seed, stage, 1)
            rows, simulate = np.concatenate([rows, extra]), np.concatenate([simulate, np.zeros(len(extra), dtype=bool)])
        return rows, simulate


def to_float(images: np.ndarray, device: torch.device) -> torch.Tensor:
    """``(B, H, W, 3)`` uint8 of the cache to ``(B, 3, H, W)`` float32 in [0, 1] on the device, in channels-last memory.

    A read-only view into the cache is copied first, since tensors know no read-only memory.
    """
    tensor = torch.from_numpy(np.require(images, requirements="W")).to(device, non_blocking=True)
    return tensor.permute(0, 3, 1, 2).to(torch.float32).div_(255)
