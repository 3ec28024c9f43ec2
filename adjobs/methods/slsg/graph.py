"""The SG block: self-attention for the dense relations between places, a graph for the sparse ones (Sec. 3.3)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adjobs.methods.slsg.config import Config
from adjobs.nn.position import sincos_2d


class SGBlock(nn.Module):
    """X to X', eq. (2) to (7), with the switches of Table 6.

    Without self-attention there is no f and no g; the graph then compares X itself.
    """

    likeness: Tensor

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
        # Eq. (4); it follows from the size, so it is no part of the state.
        code = F.normalize(sincos_2d(side, side, channels).flatten(1), dim=0)
        self.register_buffer("likeness", code.T @ code, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the same shape; H × W is the size the block was built for."""
        if self.update is None:
            return x
        nodes = x.flatten(2).transpose(1, 2)
        queries, keys = nodes, nodes
        found: list[Tensor] = []
        if self.config.self_attention:
            queries, values = (layer(x).flatten(2).transpose(1, 2) for layer in (self.f, self.h))
            keys = queries if self.g is None else self.g(x).flatten(2).transpose(1, 2)
            found.append(self._dense(queries, keys, values))
        if self.config.graph:
            found.append(max_relative(nodes, self.edges(queries, keys)))
        maps = torch.cat(found, 2).transpose(1, 2)
        return self.update(maps.view(*maps.shape[:2], *x.shape[-2:]))  # type: ignore[no-any-return]

    def _dense(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Z of eq. (2) and (3), ``(B, N, C)``."""
        scale = 1.0 if self.config.attention == "official" else 1 / math.sqrt(queries.shape[-1])
        return F.scaled_dot_product_attention(queries, keys, values, scale=scale)

    @torch.no_grad()
    def edges(self, queries: Tensor, keys: Tensor) -> Tensor:
        """The K nodes that each node is tied to, eq. (5), ``(B, N, K)``; fewer where there are fewer."""
        with torch.autocast(queries.device.type, enabled=False):  # near 1 bfloat16 tells steps of 0.004 apart
            likeness = F.normalize(queries.float(), dim=2) @ F.normalize(keys.float(), dim=2).transpose(1, 2)
        if self.config.position_free:
            likeness = likeness - self.likeness
        most = min(self.config.neighbours * self.config.dilation, likeness.shape[-1])
        return likeness.topk(most, 2).indices[..., :: self.config.dilation]


def max_relative(nodes: Tensor, edges: Tensor) -> Tensor:
    """Max-relative graph convolution, eq. (6): the largest of what the neighbours have more than the node, by channel.

    Args:
        nodes: ``(B, N, C)``.
        edges: ``(B, N, K)`` int64, the neighbours of each node.

    Returns:
        ``(B, N, C)``.
    """
    batch, count, channels = nodes.shape
    at = edges.flatten(1).unsqueeze(2).expand(-1, -1, channels)
    neighbours = nodes.gather(1, at).view(batch, count, -1, channels)
    # The node is the same for all of its neighbours, so it can be taken off after the maximum.
    return neighbours.amax(2) - nodes
