"""Distance of the networks' differences to the nearest ones on normal images, wherever they were; not in the paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Generator, Tensor

from adjobs.methods.cdo.differences import Differences, FeatureMaps, NormalPairs, neighbourhood_means
from adjobs.nn.coreset import coreset
from adjobs.nn.neighbours import nearest_neighbours

MAX_CANDIDATES = 1 << 18  # differences of which each bank is selected; of more, as many are drawn at random
MIN_BANK, MAX_BANK = 500, 1 << 14  # differences in a bank, whatever fraction that is: few images need more, many no longer do
CALIBRATION = 1 << 12  # differences whose distances give the unit of each scale


class DifferenceBank(Differences):
    """Distance of the difference at a position to the nearest of a coreset of those on normal images, wherever they were.

    Where parts lie in any pose, a place has no normal difference of its own. Two scales are added, each in deviations of normal
    differences: a position by itself, which outlines defects, and the mean of its 3 × 3 neighbourhood, which finds faint ones.
    Until it is fitted, the distance is that from 0.

    Args:
        channels_by_level: number of channels C_l of each level.
        size: height and width of the map that all levels are resized to.
        max_channels: maximum number of channels; more are subsampled at random.
        coreset_ratio: fraction of the differences that are kept, within ``MIN_BANK`` and ``MAX_BANK``.
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

    def fit(self, normal: NormalPairs, count: int) -> None:
        """Select the coresets. A generator of its own draws, so that the training's random numbers stay as they are."""
        device, positions = self.banks.device, self.size[0] * self.size[1]
        generator = Generator(device).manual_seed(self.seed)
        kept_fraction = min(1.0, MAX_CANDIDATES / (count * positions))
        batches, images_of_batches = [], []
        for number, (reference, apprentice) in enumerate(normal):
            vectors = self._vectors(self.between(reference, apprentice))
            drawn = torch.randperm(vectors.shape[1], generator=generator, device=device)
            drawn = drawn[: max(1, round(kept_fraction * len(drawn)))]
            batches.append(vectors[:, drawn].to(self.banks.dtype))
            images_of_batches.append(number * count + drawn // positions)  # no batch has more images than there are
        candidates, images = torch.cat(batches, 1), torch.cat(images_of_batches)
        size = min(max(MIN_BANK, round(self.coreset_ratio * count * positions)), MAX_BANK, len(images))
        chosen = [coreset(scale, size, generator) for scale in candidates]
        self.banks = torch.stack([scale[indices] for scale, indices in zip(candidates, chosen, strict=True)])
        sample = torch.randperm(len(images), generator=generator, device=device)[:CALIBRATION]
        self.deviations.copy_(
            torch.stack(
                [
                    _deviation(scale[sample], images[sample], scale[indices], images[indices])
                    for scale, indices in zip(candidates, chosen, strict=True)
                ]
            )
        )

    def forward(self, expert: FeatureMaps, apprentice: FeatureMaps) -> Tensor:
        """Distances ``(B, *size)`` of both scales, added in their deviations."""
        scales = zip(self._vectors(self.between(self.reference(expert), apprentice)), self.banks, self.deviations, strict=True)
        nearest = [nearest_neighbours(vectors, bank, 1).distances / deviation for vectors, bank, deviation in scales]
        return torch.stack(nearest).sum(0).view(-1, *self.size)

    def _vectors(self, differences: Tensor) -> Tensor:
        """Differences of both scales, ``(2, B · H · W, d)``."""
        scales = (differences, neighbourhood_means(differences))
        return torch.stack([maps.permute(0, 2, 3, 1).flatten(0, 2) for maps in scales])

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        stored = state_dict.get(prefix + "banks")
        if stored is not None and stored.ndim == 3 and stored.shape[::2] == self.banks.shape[::2]:  # else torch reports it
            self.banks = self.banks.new_empty(stored.shape)
        super()._load_from_state_dict(state_dict, prefix, *args)


def _deviation(vectors: Tensor, images: Tensor, bank: Tensor, bank_images: Tensor) -> Tensor:
    """Standard deviation of distances to the nearest of other images; 1 where these are all equal, or there are no others.

    Args:
        vectors: ``(N, d)``.
        images: ``(N,)`` int64, the image of each.
        bank: ``(M, d)``.
        bank_images: ``(M,)`` int64, the image of each.
    """
    distances = nearest_neighbours(vectors, bank, 1, query_groups=images, bank_groups=bank_images).distances
    distances = distances[distances.isfinite()]
    deviation = distances.std() if len(distances) > 1 else torch.zeros_like(distances.sum())
    return torch.where(deviation > 0, deviation, torch.ones_like(deviation))
