"""Terms of a score in deviations of normal images, so that a distance and a logit can be added."""

from __future__ import annotations

import torch
from torch import Tensor, nn

MIN_DEVIATION = 1e-4  # of a term on normal images, both as it is and as a share of its mean


class NormalScales(nn.Module):
    """Mean and deviation of each term on normal images; 0 and 1 until they are fitted.

    Args:
        count: number of terms.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, count: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(count))
        self.register_buffer("deviation", torch.ones(count))

    def fit(self, *terms: Tensor) -> None:
        """Take mean and deviation of terms of any shape on normal images.

        A term that is the same everywhere, as the logit of a network that has died, must not turn rounding into a score.
        """
        self.mean.copy_(torch.stack([term.mean() for term in terms]))
        deviation = torch.stack([term.std() for term in terms]).clamp_min(MIN_DEVIATION)
        self.deviation.copy_(deviation.maximum(MIN_DEVIATION * self.mean.abs()))

    def forward(self, *terms: Tensor) -> list[Tensor]:
        """Each term less its mean, in its deviations."""
        return [(term - mean) / deviation for term, mean, deviation in zip(terms, self.mean, self.deviation, strict=True)]
