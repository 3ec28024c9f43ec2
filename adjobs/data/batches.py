"""Training batches from the decoded cache: which images, in which order, on which worker.

The order depends only on the seed, the stage and the epoch, and each global batch is cut into equal slices, so that a resumed run
continues where it stopped. The number of workers matters at the end of an epoch alone: the last batch is trimmed to equal slices,
and dropped where a slice would have fewer than two images. Where that changes the steps per epoch, later epochs start at other
steps. A training whose number of workers may change has the batches of the largest number throughout.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from adjobs.data.cache.build_once import open_or_build
from adjobs.data.cache.checksums import is_intact, write_checksums
from adjobs.data.cache.images import ImageCache
from adjobs.data.dataset import Dataset
from adjobs.data.labels.masks import UNKNOWN, LabelDetail, coarsen
from adjobs.data.packing import NO_ROWS, BatchPacker, PackedBatch
from adjobs.data.prefetch import prefetch
from adjobs.errors import DataError, StorageError, one_line
from adjobs.types import Batch

T = TypeVar("T")
log = logging.getLogger(__name__)


class SamplePool:
    """Samples to draw batches from; ``indices`` are their positions in the cache, ``(N,)`` int64."""

    def __init__(self, indices: np.ndarray) -> None:
        self.indices = indices
        self._latest: tuple[tuple[int, ...], np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.indices)

    def shuffled(self, *entropy: int) -> np.ndarray:
        """All indices in an order determined by ``entropy``; the latest order is kept for the other steps of its epoch."""
        if self._latest is None or self._latest[0] != entropy:
            self._latest = entropy, np.random.default_rng(entropy).permutation(self.indices)
        return self._latest[1]

    def draw(self, count: int, step: int, *entropy: int) -> np.ndarray:
        """The ``count`` indices of step number ``step``, from an endless sequence of shuffled passes over the pool."""
        position = np.arange(step * count, (step + 1) * count)
        passes = {p: self.shuffled(*entropy, int(p)) for p in np.unique(position // len(self))}
        return np.array([passes[p][i] for p, i in zip(position // len(self), position % len(self), strict=True)], dtype=np.int64)


class TrainingData:
    """The training split of a data set on one worker.

    Args:
        cache: the decoded images.
        dataset: the labels.
        sample_ids: ids of the training samples.
        device: where batches are placed.
        label_detail: coarsens the pixel labels of anomalous images.
        block: side in pixels of the blocks of ``label_detail="blocks"``.
    """

    def __init__(
        self,
        cache: ImageCache,
        dataset: Dataset,
        sample_ids: Sequence[str],
        device: torch.device,
        *,
        label_detail: LabelDetail = "full",
        block: int = 8,
    ) -> None:
        self._cache = cache
        self.device = device
        self._label_detail, self._block = label_detail, block
        self._sample_ids = tuple(sample_ids)
        classes = {sample.id: int(sample.label == "anomalous") for sample in dataset.samples}
        indices = np.array([cache.index_of[name] for name in sample_ids], dtype=np.int64)
        label_of = {int(index): classes[name] for index, name in zip(indices, sample_ids, strict=True)}
        self.packer = BatchPacker(cache.images, label_of, self._pixel_labels, device)
        self._label_index = {
            cache.index_of[name]: cache.label_index_of[name] for name in sample_ids if name in cache.label_index_of
        }
        anomalous = np.array([classes[name] for name in sample_ids], dtype=bool)
        self.all_labels_pool = SamplePool(indices)
        self.normal_pool = SamplePool(indices[~anomalous])
        self.anomalous_pool = SamplePool(indices[anomalous])

    @property
    def n_normal(self) -> int:
        """Number of normal training images."""
        return len(self.normal_pool)

    @property
    def n_anomalous(self) -> int:
        """Number of labelled anomalies in the training split."""
        return len(self.anomalous_pool)

    def normal(self, size: int) -> Iterator[Batch]:
        """All normal images in order, in batches of up to ``size``, for work without gradients."""
        return self._in_order(self.normal_pool, size)

    def anomalous(self, size: int) -> Iterator[Batch]:
        """All labelled anomalies in order, in batches of up to ``size``, for work without gradients."""
        return self._in_order(self.anomalous_pool, size)

    def _in_order(self, pool: SamplePool, size: int) -> Iterator[Batch]:
        unused_generator = torch.Generator(self.device)
        chunks = (pool.indices[start : start + size] for start in range(0, len(pool), size))
        with closing(prefetch(lambda indices: self.packer.pack(indices, NO_ROWS), chunks, self.device)) as batches:
            for _, packed in batches:
                yield self.packer.unpack(packed, unused_generator)

    def compute_once(
        self, name: str, key: Mapping[str, Any], read: Callable[[Path], T | None], build: Callable[[Path], None]
    ) -> T:
        """Compute something from this split once, and keep it on this machine for every run with the same split and image size.

        Files that were cut off or have changed since are computed again.

        Args:
            name: prefix of the folder's name.
            key: everything that the result depends on besides the images and their size; JSON-serialisable.
            read: opens the folder; returns None if it is missing or damaged.
            build: fills a new folder.

        Raises:
            StorageError: the folder cannot be written.
        """
        full_key = json.dumps([self._sample_ids, dict(key)], sort_keys=True)
        folder = self._cache.derived_dir / f"{name}-{hashlib.sha256(full_key.encode()).hexdigest()[:16]}"

        def read_intact(path: Path) -> T | None:
            if not path.is_dir():
                return None
            if not is_intact(path):
                log.warning("%s: files have changed since they were written; they are computed again", path)
                return None
            return read(path)

        def build_with_checksums(path: Path) -> None:
            build(path)
            write_checksums(path)

        try:
            return open_or_build(folder, read_intact, build_with_checksums, doing=f"computes the same {name}")
        except OSError as error:
            raise StorageError(
                f"{folder}: cannot be written ({error.strerror or one_line(error)}); free some space or choose another cache "
                "folder (ADJOBS_CACHE)"
            ) from error

    def plan(
        self,
        composition: tuple[int, int, int, int],
        world_size: int,
        size_params: Sequence[str] = ("batch_size",),
        *,
        max_world_size: int | None = None,
    ) -> BatchPlan:
        """Plan the batches of a stage.

        Args:
            composition: images in a global batch (all_labels, normal, simulated, anomalous), see
                :class:`adjobs.methods.contract.BatchComposition`.
            world_size: number of workers.
            size_params: method parameters that determine the composition, named in errors.
            max_world_size: number of workers that the batches are made for, a multiple of ``world_size``; None: that.

        Raises:
            DataError: the training split lacks images that the composition needs, or the batch cannot be distributed to the
                workers.
        """
        all_labels, normal, simulated, anomalous = composition
        shares = max_world_size or world_size
        settings = " or ".join(f"params.{name}" for name in size_params)
        if anomalous and not len(self.anomalous_pool):
            raise DataError(
                "the method needs labelled anomalies in each batch, but the training split has none; label some or change params"
            )
        if all_labels:
            pool, global_batch_size = self.all_labels_pool, all_labels
        else:
            pool, global_batch_size = self.normal_pool, normal + simulated
        if global_batch_size % shares or anomalous % shares:
            raise DataError(
                f"a global batch of {global_batch_size} + {anomalous} anomalous images cannot be distributed equally among "
                f"{shares} workers; change {settings} or train.workers"
            )
        # A split smaller than one batch is one batch.
        global_batch_size = min(global_batch_size, len(pool) // shares * shares)
        if not global_batch_size or global_batch_size + anomalous < 2 * shares:
            raise DataError(
                f"a global batch has {global_batch_size + anomalous} images, but each of {shares} workers needs at least 2; "
                f"use fewer workers, a larger {settings}, or more training images (currently {len(pool)})"
            )
        return BatchPlan(self, composition, pool, global_batch_size, world_size, shares)

    def load(self, indices: np.ndarray, generator: torch.Generator, simulated_rows: slice = NO_ROWS) -> Batch:
        """The batch of these cache indices on the device."""
        packed = self.packer.pack(indices, simulated_rows)
        return self.packer.unpack(packed._replace(buffer=packed.buffer.to(self.device)), generator)

    def _pixel_labels(self, index: int) -> np.ndarray:
        """The pixel labels of an anomalous image that training may use, ``(size, size)`` uint8."""
        if index not in self._label_index:
            return np.full(self._cache.images.shape[1:3], UNKNOWN, dtype=np.uint8)
        return coarsen(np.array(self._cache.labels[self._label_index[index]]), self._label_detail, self._block)


@dataclass(frozen=True)
class BatchPlan:
    """The batches of one stage.

    Attributes:
        data: the training split.
        composition: see :meth:`TrainingData.plan`.
        pool: samples of which an epoch shows each once, but for those that the end of the epoch leaves out.
        global_batch_size: samples of ``pool`` in a step of all workers together; the last step of an epoch may have fewer.
        world_size: number of workers.
        shares: number of workers that the batches are made for; every batch can be cut into so many equal slices.
    """

    data: TrainingData
    composition: tuple[int, int, int, int]
    pool: SamplePool
    global_batch_size: int
    world_size: int
    shares: int

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one pass over the pool.

        A last batch with fewer than two images per share is dropped: batch normalisation cannot learn from one image. So the
        number may depend on ``shares``.
        """
        full_batches, remainder = divmod(len(self.pool), self.global_batch_size)
        return full_batches + int(remainder >= 2 * self.shares)

    def global_size(self, step: int) -> int:
        """Number of images in the global batch of ``step``, counted from the start of the stage."""
        remaining = len(self.pool) - step % self.steps_per_epoch * self.global_batch_size
        return min(self.global_batch_size, remaining) // self.shares * self.shares + self.composition[3]

    def batch(self, step: int, *, seed: int, stage: int, rank: int, device: torch.device) -> Batch:
        """This worker's slice of the global batch of ``step``, with its random generator."""
        generator = torch.Generator(device).manual_seed(step_seed(seed, stage, step, rank))
        indices, simulated_rows = self._worker_slice(step, seed, stage, rank)
        return self.data.load(indices, generator, simulated_rows)

    def pack(self, step: int, *, seed: int, stage: int, rank: int) -> PackedBatch:
        """The same, packed in main memory and without the generator."""
        return self.data.packer.pack(*self._worker_slice(step, seed, stage, rank))

    def _worker_slice(self, step: int, seed: int, stage: int, rank: int) -> tuple[np.ndarray, slice]:
        """Cache indices of a worker's slice of the global batch, and on which of its rows to simulate an anomaly."""
        indices, simulated = self._global_batch(step, seed, stage)
        # Of the rows rank, rank + world_size, … those from start up to stop.
        first, last = (max(0, -(-(row - rank) // self.world_size)) for row in (simulated.start, simulated.stop))
        return indices[rank :: self.world_size], slice(first, last)

    def _global_batch(self, step: int, seed: int, stage: int) -> tuple[np.ndarray, slice]:
        """Cache indices of the global batch, and on which of its rows to simulate an anomaly."""
        all_labels, normal, simulated, anomalous = self.composition
        epoch, i = divmod(step, self.steps_per_epoch)
        indices = self.pool.shuffled(seed, stage, epoch)[i * self.global_batch_size : (i + 1) * self.global_batch_size]
        # Equal slices, so that averaging over workers is averaging over images. A copy: batches must not share the kept order.
        indices = indices[: len(indices) // self.shares * self.shares].copy()
        count = len(indices)
        first = count if all_labels else round(count * normal / (normal + simulated))
        if anomalous:
            indices = np.concatenate([indices, self.data.anomalous_pool.draw(anomalous, step, seed, stage, 1)])
        return indices, slice(first, count)


def step_seed(seed: int, stage: int, step: int, rank: int) -> int:
    """Seed of the generator of one step on one worker."""
    entropy = np.random.SeedSequence([seed, stage, step, rank]).generate_state(2, np.uint32)
    return int(entropy[0]) << 31 | int(entropy[1]) >> 1
