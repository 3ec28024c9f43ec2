"""CDO's distance in units of the spread that it has on good pictures; ours, with PaDiM's Gaussian at every position."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adjobs.methods.cdo.loss import differences
from adjobs.nn.spread import Moments, Spread

Maps = Sequence[Tensor]  # ``(B, C_l, H_l, W_l)`` of each hierarchy


class JointSpread(nn.Module):
    """How unusual it is, beside normal images, what expert and apprentice differ by at a place: all hierarchies together.

    The difference is ‖f_E‖ (f̂_E − f̂_A). How strongly the expert answers counts here: directions of the faintest features are
    little more than noise, and what discrepancy, eq. (3), makes of unit-length ones knows nothing of it.

    Args:
        widths: channels C_l of each hierarchy.
        size: rows and columns of the map to which all of them are brought.
        grid: most of them that have a spread of their own; of more, squares of the map share one.
        dims: most channels; of more so many are drawn by lot.
        seed: of that lot.
    """

    channels: Tensor

    def __init__(self, widths: Sequence[int], size: tuple[int, int], grid: int, dims: int, seed: int) -> None:
        super().__init__()
        self.size = size
        self.side = shared(size, grid)
        lot = torch.randperm(sum(widths), generator=torch.Generator().manual_seed(seed))
        self.register_buffer("channels", lot[:dims].sort().values)
        self.spread = Spread(len(self.channels), [length // self.side for length in size])

    def measure(self, normal: Iterable[tuple[Maps, Maps]], shrinkage: float) -> None:
        """Take centre and spread of the differences over both networks' maps of the normal images, in batches."""
        moments = Moments()
        for expert, apprentice in normal:
            moments.add(self._vectors(expert, apprentice))
        self.spread.measure(moments, shrinkage)

    def forward(self, expert: Maps, apprentice: Maps) -> Tensor:
        """Mahalanobis distances over √d, of good images about 1, ``(B, *size)``: root mean squares over the d channels."""
        vectors = self._vectors(expert, apprentice)
        found: Tensor = (self.spread(vectors) / vectors.shape[-1]).sqrt()
        rows, columns, side = *found.shape[1:], self.side
        return found.view(-1, side, side, rows, columns).permute(0, 3, 1, 4, 2).reshape(-1, rows * side, columns * side)

    def _vectors(self, expert: Maps, apprentice: Maps) -> Tensor:
        """The differences of all hierarchies at a place, ``(B · side², rows, columns, d)``: a square's positions are samples."""
        lengths = [maps.norm(dim=1, keepdim=True) for maps in expert]
        found = [self._resized(length * d) for length, d in zip(lengths, differences(expert, apprentice), strict=True)]
        joint = torch.cat(found, 1)[:, self.channels]
        batch, dims, rows, columns = joint.shape
        side = self.side
        squares = joint.view(batch, dims, rows // side, side, columns // side, side).permute(0, 3, 5, 2, 4, 1)
        return squares.reshape(-1, rows // side, columns // side, dims)

    def _resized(self, maps: Tensor) -> Tensor:
        """Maps at the common size: means of a finer one's positions, between those of a coarser one."""
        if maps.shape[-1] >= self.size[-1]:
            return F.adaptive_avg_pool2d(maps, self.size)
        return F.interpolate(maps, self.size, mode="bilinear", align_corners=False)


def shared(size: Sequence[int], grid: int) -> int:
    """Side of the squares of a map that share a spread: the smallest that leaves at most ``grid`` squares in a row."""
    return next(side for side in range(1, max(size) + 1) if all(n % side == 0 and n // side <= grid for n in size))
