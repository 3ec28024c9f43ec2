"""What is learnt from: windows of tokens, what is known of each token, and means over the tokens of all workers."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from adjobs.data.labels.masks import ANOMALOUS, NORMAL, UNKNOWN
from adjobs.methods.semirest.config import Config, Phase
from adjobs.methods.semirest.networks import STRIDE
from adjobs.nn.distributed import global_sum

UNDECIDED = 3  # a token with too much defect for a normal and too little for an anomalous one: nothing is learnt from it


class Windows(NamedTuple):
    """What is learnt from in a step: N windows of μ × μ tokens.

    Attributes:
        tokens: ``(N, μ, μ, d)``.
        neighbours: ``(N, μ, μ, K)`` places in the memory.
        targets: ``(N, μ, μ)`` int64: NORMAL, ANOMALOUS, UNKNOWN or UNDECIDED.
    """

    tokens: Tensor
    neighbours: Tensor
    targets: Tensor


def block_targets(masks: Tensor, unknown: Tensor, phase: Phase, config: Config) -> Tensor:
    """What is known of each token.

    Args:
        masks: ``(B, 1, H, W)`` bool, defects.
        unknown: ``(B, 1, H, W)`` bool, where nobody knows.
        phase: with its ε+.
        config: with ε−, and how much of a normal token may be unknown.

    Returns:
        ``(B, H / 8, W / 8)`` int64: NORMAL, ANOMALOUS, UNKNOWN or UNDECIDED.
    """
    defect, open_ = (F.avg_pool2d(which.float(), STRIDE)[:, 0] for which in (masks, unknown))
    rounding = 1e-6
    targets = torch.full_like(defect, UNDECIDED, dtype=torch.long)
    targets[defect <= config.block_normal + rounding] = NORMAL
    targets[open_ > 1 - config.free + rounding] = UNKNOWN
    targets[defect >= phase.block_anomalous - rounding] = ANOMALOUS
    # An anomaly without a box is unknown all over: that most of it were a defect, as of a box, would be wrong.
    targets[(targets == UNKNOWN).flatten(1).all(1)] = UNDECIDED
    return targets


def certain(targets: Tensor) -> Tensor:
    """The q of tokens that are known, ``(…, 2)``; of others of no meaning."""
    return F.one_hot((targets == ANOMALOUS).long(), 2).float()


def order_within(these: Tensor, generator: Generator) -> Tensor:
    """A random order of all tokens, flat, in which only ``these`` change places among each other."""
    flat = these.flatten()
    order = torch.arange(len(flat), device=flat.device)
    chosen = order[flat]
    order[flat] = chosen[torch.randperm(len(chosen), generator=generator, device=flat.device)]
    return order


def mean_where(values: Tensor, where: Tensor, per: Tensor | None = None) -> Tensor:
    """Mean over all workers' tokens; 0 where there are none. With ``per``, the sum over ``where`` for each token of those."""
    count = global_sum((where if per is None else per).sum().to(values.dtype))
    return global_sum((values * where).sum()) / count.clamp_min(1)


def told_apart(answers: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Mean P(anomalous) of normal and of anomalous tokens, to see whether they are told apart."""
    chance = answers.detach().float().softmax(-1)[..., 1]
    return {"p_normal": mean_where(chance, targets == NORMAL), "p_anomalous": mean_where(chance, targets == ANOMALOUS)}
