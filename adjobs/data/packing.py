"""What a batch needs from main memory, packed into one buffer: one copy brings it to the device, where it becomes a batch.

The buffer holds whole numbers first (label, whether to simulate, index, row), then, unless all pixels are on the device already,
the images as they are in the cache, and last the pixel labels. Everything that is computed is computed on the device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from adjobs import devices
from adjobs.data.labels.masks import ANOMALOUS, NORMAL, UNKNOWN
from adjobs.types import Batch

NO_ROWS = slice(0, 0)
_FIELDS = 4  # whole numbers of 8 bytes for each image
_FIELD_BYTES = _FIELDS * 8


class ResidentPixels(NamedTuple):
    """The pixels of all training images on the device.

    Attributes:
        images: ``(N, S, S, 3)`` uint8.
        labels: ``(N, S, S)`` uint8, values of :mod:`adjobs.data.labels.masks`.
    """

    images: Tensor
    labels: Tensor


class PackedBatch(NamedTuple):
    """A batch on its way.

    Attributes:
        buffer: ``(bytes,)`` uint8, in main memory or on the device.
        simulated_rows: see `Batch`.
    """

    buffer: Tensor
    simulated_rows: slice


@dataclass
class BatchPacker:
    """Packs and unpacks the batches of a training split.

    Attributes:
        images: ``(N, S, S, 3)`` uint8, the decoded images of the data set.
        label_of: 0 or 1 for each cache index of the split.
        pixel_labels: the pixel labels of an anomalous image that training may use, ``(S, S)`` uint8, by its cache index.
        device: where batches are made.
        resident: pixels of the split that are on the device, by row.
        row_of: row of each cache index there.
    """

    images: np.ndarray
    label_of: dict[int, int]
    pixel_labels: Callable[[int], np.ndarray]
    device: torch.device
    resident: ResidentPixels | None = None

    def __post_init__(self) -> None:
        self.side = self.images.shape[1]
        self.row_of = {index: row for row, index in enumerate(sorted(self.label_of))}

    def make_resident(self, share: float) -> bool:
        """Copy all pixels of the split to a GPU if they take at most this share of its free memory; whether they did."""
        required = len(self.row_of) * self.side**2 * 4
        if self.resident is None and devices.is_gpu(self.device) and required <= share * devices.free_bytes(self.device):
            self.resident = self.copy_all()
        return self.resident is not None

    def copy_all(self) -> ResidentPixels:
        """All pixels of the split, on the device."""
        count, side = len(self.row_of), self.side
        images = torch.empty(count, side, side, 3, dtype=torch.uint8, device=self.device)
        labels = torch.full((count, side, side), NORMAL, dtype=torch.uint8, device=self.device)
        for index, row in self.row_of.items():
            images[row] = torch.from_numpy(np.array(self.images[index])).to(self.device)
            if self.label_of[index]:
                labels[row] = torch.from_numpy(self.pixel_labels(index)).to(self.device)
        return ResidentPixels(images, labels)

    def buffer_size(self, count: int) -> int:
        """Bytes of a packed batch of ``count`` images."""
        return count * (_FIELD_BYTES + (0 if self.resident else 4 * self.side**2))

    def pack(self, indices: np.ndarray, simulated_rows: slice) -> PackedBatch:
        """Pack a batch; touches neither random numbers nor the device.

        Args:
            indices: ``(B,)`` cache indices.
            simulated_rows: which of them get a simulated anomaly.

        Returns:
            A batch in main memory, from which copies to a GPU need not wait.
        """
        buffer = devices.host_buffer(self.buffer_size(len(indices)), self.device)
        fields = self._fields(buffer).numpy()
        positions = indices.tolist()
        fields[0] = [self.label_of[index] for index in positions]
        fields[1], fields[2] = 0, indices
        fields[1, simulated_rows] = 1
        fields[3] = [self.row_of[index] for index in positions]
        if self.resident is None:
            # By NumPy: PyTorch would start further threads for the thread that packs, which take the cores from the step.
            images, labels = (values.numpy() for values in self._pixels(buffer))
            np.take(self.images, indices, axis=0, out=images, mode="clip")  # "raise" would copy twice
            for i, index in enumerate(positions):  # every pixel of a normal image is normal
                labels[i] = self.pixel_labels(index) if self.label_of[index] else NORMAL
        return PackedBatch(buffer, simulated_rows)

    def unpack(self, packed: PackedBatch, generator: Generator) -> Batch:
        """The batch of a buffer that is on the device; nothing here waits for the device or depends on values."""
        buffer = packed.buffer
        label, simulate, index, row = self._fields(buffer)
        if self.resident is None:
            images, labels = self._pixels(buffer)
        else:
            images, labels = self.resident.images[row], self.resident.labels[row]
        masks, unknown = ((labels == value).unsqueeze(1) for value in (ANOMALOUS, UNKNOWN))
        return Batch(scale(images), label, masks, unknown, simulate.bool(), index, generator, packed.simulated_rows)

    def _count(self, buffer: Tensor) -> int:
        return len(buffer) // self.buffer_size(1)

    def _fields(self, buffer: Tensor) -> Tensor:
        """Label, whether to simulate, cache index and row of each image, ``(4, B)`` int64."""
        count = self._count(buffer)
        return buffer[: count * _FIELD_BYTES].view(torch.int64).view(_FIELDS, count)

    def _pixels(self, buffer: Tensor) -> tuple[Tensor, Tensor]:
        """Images ``(B, S, S, 3)`` and pixel labels ``(B, S, S)``, uint8."""
        count, area = self._count(buffer), self.side**2
        start = count * _FIELD_BYTES
        middle = start + 3 * area * count
        shape = (count, self.side, self.side)
        return buffer[start:middle].view(*shape, 3), buffer[middle:].view(shape)


def scale(images: Tensor) -> Tensor:
    """Convert ``(B, H, W, 3)`` uint8 images to ``(B, 3, H, W)`` float32 in [0, 1], in channels-last memory on the same device."""
    return images.permute(0, 3, 1, 2).to(torch.float32).div_(255)


def to_float(images: np.ndarray, device: torch.device) -> Tensor:
    """Convert images of the cache to floats in channels-last memory on a device.

    A read-only view into the cache is copied first, since tensors cannot be read-only.

    Args:
        images: ``(B, H, W, 3)`` uint8.
        device: where the tensor is placed.

    Returns:
        ``(B, 3, H, W)`` float32 in [0, 1].
    """
    return scale(torch.from_numpy(np.require(images, requirements="W")).to(device, non_blocking=True))
