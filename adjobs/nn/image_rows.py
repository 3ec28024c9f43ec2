"""Arrays with a row for each image, which training steps look up by the images' indices."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from adjobs import devices

RESIDENT_SHARE = 0.25  # of the free memory of a GPU that an array may take


class ImageRows:
    """Rows of a large array, by image.

    On a GPU the array is kept there if it takes no more than ``RESIDENT_SHARE`` of the free memory. Otherwise it stays where it
    is, such as in a memory map, and each look-up waits for the GPU and copies rows to it.

    Args:
        indices: ``(N,)`` int64, the image of each row.
        values: ``(N, ...)``, writable.
        device: of the steps.
    """

    def __init__(self, indices: np.ndarray, values: np.ndarray, device: torch.device) -> None:
        self._values = torch.from_numpy(values)
        if devices.is_gpu(device) and self._values.nbytes <= RESIDENT_SHARE * devices.free_bytes(device):
            self._values = self._values.to(device)
        row_of = torch.zeros(int(indices.max(initial=0)) + 1, dtype=torch.long)
        row_of[torch.from_numpy(indices)] = torch.arange(len(indices))
        self._row_of = row_of.to(device)

    def get(self, indices: Tensor, *inner: Tensor) -> Tensor:
        """The rows of images ``(B,)``, on the device of ``indices``; ``inner`` are indices within a row, ``(B,)`` each."""
        place = self._values.device
        return self._values[tuple(index.to(place) for index in (self._row_of[indices], *inner))].to(indices.device)
