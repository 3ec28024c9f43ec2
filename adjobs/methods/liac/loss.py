"""LIAC's equations, and the losses of the paper's baselines.

``delta`` is the logit of "anomalous" minus that of "normal", z₁ − z₀, and ``margin`` is log(p₀ / p₁) of the label frequencies in
the training split. All losses are per image, ``(B,)``, and computed at least in float32.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# From this probability on, the bonus of the encouraging loss grows linearly instead of without bound: the "conservative bonus"
# of Zhao et al., AAAI 2022, with the default of their published code.
ENCOURAGING_LIMIT = 0.75


def logit_inducing(delta: Tensor, anomalous: Tensor, margin: Tensor, floor: float | None = None) -> Tensor:
    """Logit inducing loss, eq. (4).

    With y = 1 the printed 1 − y leaves log(exp(·)), which is linear: the gradient on labelled anomalies never vanishes, and the
    loss has no lower bound. With y = 0 it is the logit-adjusted cross entropy. No exponential is computed: it would overflow.

    Args:
        delta: z₁ − z₀, ``(B,)``.
        anomalous: ``(B,)`` bool.
        margin: log(p₀ / p₁), a scalar.
        floor: an anomaly whose delta exceeds the margin by this much costs −floor and has no gradient; None: as printed.

    Returns:
        ``(B,)``.
    """
    anomaly_loss = margin - delta if floor is None else (margin - delta).clamp_min(-floor)
    return torch.where(anomalous, anomaly_loss, F.softplus(delta - margin))


def logit_adjustment(delta: Tensor, anomalous: Tensor, margin: Tensor) -> Tensor:
    """Cross entropy of logits shifted by the label frequencies (Menon et al., ICLR 2021, eq. 10 with τ = 1)."""
    return F.softplus(torch.where(anomalous, margin - delta, delta - margin))


def weighted_ce(delta: Tensor, anomalous: Tensor, margin: Tensor) -> Tensor:
    """Cross entropy with weights 1 / (2 p_y), whose mean over the training split is 1."""
    weight = torch.where(anomalous, 1 + margin.exp(), 1 + (-margin).exp()) / 2  # 1 / p₁ = 1 + p₀ / p₁
    return weight * _cross_entropy(delta, anomalous)


def focal(delta: Tensor, anomalous: Tensor, gamma: float, alpha: float) -> Tensor:
    """Focal loss (Lin et al., ICCV 2017, eq. 5): α_y (1 − p_y)^γ of the cross entropy."""
    p_wrong = torch.sigmoid(torch.where(anomalous, -delta, delta))
    weight = torch.where(anomalous, alpha, 1 - alpha)
    return weight * p_wrong.pow(gamma) * _cross_entropy(delta, anomalous)


def asymmetric(delta: Tensor, anomalous: Tensor, gamma: float) -> Tensor:
    """Focal loss for normal images only: they are weighted by p₁^γ, anomalies keep their cross entropy.

    The paper cites Lin, Ye, Zhan, Huang (Appl. Sci. 2020) and gives no formula, only "much more weight to the loss of anomalous
    images". This one has focusing exponents 0 and γ: Ridnik et al., ICCV 2021, eq. 7 without its shift.
    """
    weight = torch.where(anomalous, torch.ones_like(delta), torch.sigmoid(delta).pow(gamma))
    return weight * _cross_entropy(delta, anomalous)


def encouraging(delta: Tensor, anomalous: Tensor, limit: float = ENCOURAGING_LIMIT) -> Tensor:
    """Cross entropy plus a bonus log(1 − p_y) for correct predictions (Zhao et al., AAAI 2022), linear in p_y above ``limit``."""
    logit = torch.where(anomalous, delta, -delta)
    p = torch.sigmoid(logit)
    at_limit = math.log1p(-limit)
    bonus = torch.where(p < limit, F.logsigmoid(-logit), at_limit - (p - limit) / (1 - limit))
    return _cross_entropy(delta, anomalous) + bonus


def distance(teacher: Tensor, student: Tensor, norm: str = "l2") -> Tensor:
    """Distance between the two networks' features, eq. (10).

    Args:
        teacher: f_T, ``(B, C)``.
        student: f_S, ``(B, C)``.
        norm: ``l2`` divides features by their length, so D = 1 − cos(f_T, f_S), in [0, 1] for features ≥ 0; ``l2sq`` by its
            square, as printed: D is unbounded, and close to 0 for long features.

    Returns:
        D, ``(B,)``, float32 or better.
    """

    def normalise(features: Tensor) -> Tensor:
        features = features.to(torch.promote_types(features.dtype, torch.float32))
        unit = F.normalize(features, dim=1)
        return unit if norm == "l2" else unit / features.norm(dim=1, keepdim=True).clamp_min(1e-6)

    return (normalise(teacher) - normalise(student)).square().sum(1) / 2


def abnormality_capturing(d: Tensor, anomalous: Tensor, sign: str = "corrected") -> Tensor:
    """Abnormality capturing loss, eq. (11), ``(B,)``: D for normal images, 1 − D for anomalies.

    The printed equation (``as_printed``) is reversed, contrary to the text and Fig. 3, which increase D on anomalies.
    """
    is_maximised = anomalous if sign == "corrected" else ~anomalous
    return torch.where(is_maximised, 1 - d, d)


def _cross_entropy(delta: Tensor, anomalous: Tensor) -> Tensor:
    """−log p_y of two classes, eq. (5)."""
    return F.softplus(torch.where(anomalous, -delta, delta))
