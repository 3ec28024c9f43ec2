"""The SG block: self-attention for dense relationships between positions, a graph convolution for sparse ones (Sec. 3.3)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adjobs.methods.slsg.config import Config
from adjobs.nn.position import sincos_2d


class SGBlock(nn.Module):
    """X to X', eq. (2) to (7), with the ablations of Table 6.

    Without self-attention there are no projections f and g; the graph is then built on X itself.
    """

    position_similarity: Tensor

    def __init__(self, config: Config, side: int) -> None:
        super().__init__()
        self.config = config
        channels = 8 * config.width
        if config.self_attention:
            self.f = nn.Conv2d(channels, channels // 2, 1)
            self.g = None if config.attention == "official" else nn.Conv2d(channels, channels // 2, 1)
            self.h = nn.Conv2d(channels, channels, 1)
        branches = config.self_attention + config.graph
        self.update = nn.Conv2d(branches * channels, channels, 1) if branches else None
        # Eq. (4); determined by the size, hence not persistent.
        code = F.normalize(sincos_2d(side, side, channels).flatten(1), dim=0)
        self.register_buffer("position_similarity", code.T @ code, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the same shape; H and W must be the ``side`` that the block was built for."""
        if self.update is None:
            return x
        nodes = x.flatten(2).transpose(1, 2)
        queries, keys = nodes, nodes
        branches: list[Tensor] = []
        if self.config.self_attention:
            queries, values = (layer(x).flatten(2).transpose(1, 2) for layer in (self.f, self.h))
            keys = queries if self.g is None else self.g(x).flatten(2).transpose(1, 2)
            branches.append(self._attend(queries, keys, values))
        if self.config.graph:
            branches.append(max_relative(nodes, self.edges(queries, keys)))
        maps = torch.cat(branches, 2).transpose(1, 2)
        return self.update(maps.view(*maps.shape[:2], *x.shape[-2:]))  # type: ignore[no-any-return]

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Z of eq. (2) and (3), ``(B, N, C)``."""
        scale = 1.0 if self.config.attention == "official" else 1 / math.sqrt(queries.shape[-1])
        return F.scaled_dot_product_attention(queries, keys, values, scale=scale)

    @torch.no_grad()
    def edges(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Indices of the K neighbours of each node, eq. (5), ``(B, N, K)``; fewer if there are fewer nodes."""
        with torch.autocast(queries.device.type, enabled=False):  # near 1, bfloat16 has a resolution of only 0.004
            similarity = F.normalize(queries.float(), dim=2) @ F.normalize(keys.float(), dim=2).transpose(1, 2)
        if self.config.subtract_position_similarity:
            similarity = similarity - self.position_similarity
        count = min(self.config.neighbours * self.config.dilation, similarity.shape[-1])
        return similarity.topk(count, 2).indices[..., :: self.config.dilation]


def max_relative(nodes: Tensor, edges: Tensor) -> Tensor:
    """Max-relative graph convolution, eq. (6): by channel, the maximum of neighbour minus node.

    Args:
        nodes: ``(B, N, C)``.
        edges: ``(B, N, K)`` int64, indices of the neighbours of each node.

    Returns:
        ``(B, N, C)``.
    """
    batch, count, channels = nodes.shape
    indices = edges.flatten(1).unsqueeze(2).expand(-1, -1, channels)
    neighbours = nodes.gather(1, indices).view(batch, count, -1, channels)
    # The node is the same for all of its neighbours, so it can be subtracted after the maximum.
    return neighbours.amax(2) - nodes
