"""Distance of the networks' differences to the nearest one on normal images, wherever it was; not in the paper."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Generator, Tensor

from adjobs.methods.cdo.differences import Differences, FeatureMaps, NormalPairs
from adjobs.nn.coreset import coreset
from adjobs.nn.neighbours import nearest_neighbours

MAX_CANDIDATES = 1 << 18  # differences of which the bank is selected; of more, as many are drawn at random
MIN_BANK = 500  # differences, for data sets so small that a fraction of them would be too few


class DifferenceBank(Differences):
    """Distance of the difference at a position to the nearest of a coreset of those on normal images.

    Where parts lie in any pose, a place has no normal difference of its own. Until it is fitted, the distance is that from 0.

    Args:
        channels_by_level: number of channels C_l of each level.
        size: height and width of the map that all levels are resized to.
        max_channels: maximum number of channels; more are subsampled at random.
        coreset_ratio: fraction of the differences that are kept.
        seed: of the subsampling, and of the coreset.
    """

    bank: Tensor

    def __init__(
        self, channels_by_level: Sequence[int], size: tuple[int, int], max_channels: int, coreset_ratio: float, seed: int
    ) -> None:
        super().__init__(channels_by_level, size, max_channels, seed)
        self.coreset_ratio, self.seed = coreset_ratio, seed
        self.register_buffer("bank", torch.zeros(1, len(self.channels), dtype=torch.half))

    def fit(self, normal: NormalPairs, images: int) -> None:
        """Select the coreset. A generator of its own draws, so that the training's random numbers stay as they are."""
        device = self.bank.device
        generator = Generator(device).manual_seed(self.seed)
        total = images * self.size[0] * self.size[1]
        kept_fraction = min(1.0, MAX_CANDIDATES / total)
        batches = []
        for reference, apprentice in normal:
            vectors = self._vectors(self.between(reference, apprentice))
            count = max(1, round(kept_fraction * len(vectors)))
            drawn = torch.randperm(len(vectors), generator=generator, device=device)[:count]
            batches.append(vectors[drawn].to(self.bank.dtype))
        candidates = torch.cat(batches)
        size = min(max(MIN_BANK, round(self.coreset_ratio * total)), len(candidates))
        selected = candidates[coreset(candidates, size, generator)]
        if selected.shape == self.bank.shape:
            self.bank.copy_(selected)  # in place, because captured predictions read it where it is
        else:
            self.bank = selected

    def forward(self, expert: FeatureMaps, apprentice: FeatureMaps) -> Tensor:
        """Euclidean distances divided by √d, ``(B, *size)``."""
        vectors = self._vectors(self.between(self.reference(expert), apprentice))
        distances = nearest_neighbours(vectors, self.bank, 1).distances.view(-1, *self.size)
        return distances / math.sqrt(vectors.shape[1])

    def _vectors(self, differences: Tensor) -> Tensor:
        """Differences ``(B · H · W, d)``."""
        return differences.permute(0, 2, 3, 1).flatten(0, 2)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        stored = state_dict.get(prefix + "bank")
        if stored is not None and stored.ndim == 2 and stored.shape[1] == self.bank.shape[1]:  # else torch reports the mismatch
            self.bank = self.bank.new_empty(stored.shape)
        super()._load_from_state_dict(state_dict, prefix, *args)
