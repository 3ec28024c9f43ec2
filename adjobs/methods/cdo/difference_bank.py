"""Distance of the networks' differences to the nearest ones on normal images, wherever they were; not in the paper."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from adjobs.methods.cdo.differences import Differences, FeatureMaps, NormalPairs
from adjobs.nn.coreset import coreset
from adjobs.nn.neighbours import nearest_neighbours

MAX_CANDIDATES = 1 << 18  # differences of which each bank is selected; of more, as many are drawn at random
MIN_BANK = 500  # differences, for data sets so small that a fraction of them would be too few
CALIBRATION = 1 << 12  # differences whose distances give the unit of each scale
NEIGHBOURHOOD = 3  # side of the squares of positions that the second scale averages


class DifferenceBank(Differences):
    """Distance of the difference at a position to the nearest of a coreset of those on normal images, wherever they were.

    Where parts lie in any pose, a place has no normal difference of its own. Two scales are added, each in deviations of normal
    differences: a position by itself, which outlines defects, and the mean of its 3 × 3 neighbourhood, which finds faint ones.
    Until it is fitted, the distance is that from 0.

    Args:
        channels_by_level: number of channels C_l of each level.
        size: height and width of the map that all levels are resized to.
        max_channels: maximum number of channels; more are subsampled at random.
        coreset_ratio: fraction of the differences that are kept.
        seed: of the subsampling, and of the coreset.
    """

    banks: Tensor
    deviations: Tensor

    def __init__(
        self, channels_by_level: Sequence[int], size: tuple[int, int], max_channels: int, coreset_ratio: float, seed: int
    ) -> None:
        super().__init__(channels_by_level, size, max_channels, seed)
        self.coreset_ratio, self.seed = coreset_ratio, seed
        self.register_buffer("banks", torch.zeros(2, 1, len(self.channels), dtype=torch.half))
        self.register_buffer("deviations", torch.ones(2))

    def fit(self, normal: NormalPairs, images: int) -> None:
        """Select the coresets. A generator of its own draws, so that the training's random numbers stay as they are."""
        device = self.banks.device
        generator = Generator(device).manual_seed(self.seed)
        total = images * self.size[0] * self.size[1]
        batches = []
        for reference, apprentice in normal:
            vectors = self._vectors(self.between(reference, apprentice))
            count = max(1, round(min(1.0, MAX_CANDIDATES / total) * vectors.shape[1]))
            drawn = torch.randperm(vectors.shape[1], generator=generator, device=device)[:count]
            batches.append(vectors[:, drawn].to(self.banks.dtype))
        candidates = torch.cat(batches, 1)
        size = min(max(MIN_BANK, round(self.coreset_ratio * total)), candidates.shape[1])
        banks = torch.stack([scale[coreset(scale, size, generator)] for scale in candidates])
        if banks.shape == self.banks.shape:
            self.banks.copy_(banks)  # in place, because captured predictions read them where they are
        else:
            self.banks = banks
        sample = candidates[:, torch.randperm(candidates.shape[1], generator=generator, device=device)[:CALIBRATION]]
        deviations = self._distances(sample).std(1)
        self.deviations.copy_(deviations.clamp_min(torch.finfo(deviations.dtype).eps))

    def forward(self, expert: FeatureMaps, apprentice: FeatureMaps) -> Tensor:
        """Distances ``(B, *size)`` of both scales, added in their deviations."""
        vectors = self._vectors(self.between(self.reference(expert), apprentice))
        return (self._distances(vectors) / self.deviations[:, None]).sum(0).view(-1, *self.size)

    def _vectors(self, differences: Tensor) -> Tensor:
        """Differences of both scales, ``(2, B · H · W, d)``."""
        means = F.avg_pool2d(differences, NEIGHBOURHOOD, 1, NEIGHBOURHOOD // 2, count_include_pad=False)
        return torch.stack([maps.permute(0, 2, 3, 1).flatten(0, 2) for maps in (differences, means)])

    def _distances(self, vectors: Tensor) -> Tensor:
        """Euclidean distances ``(2, N)`` to the nearest of each bank, divided by √d."""
        pairs = zip(vectors, self.banks, strict=True)
        nearest = torch.stack([nearest_neighbours(queries, bank, 1).distances[:, 0] for queries, bank in pairs])
        return nearest / math.sqrt(vectors.shape[2])

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        stored = state_dict.get(prefix + "banks")
        if stored is not None and stored.ndim == 3 and stored.shape[::2] == self.banks.shape[::2]:  # else torch reports it
            self.banks = self.banks.new_empty(stored.shape)
        super()._load_from_state_dict(state_dict, prefix, *args)
