"""Labels of tokens, derived from pixel labels by the fraction of defect in each block of 8 × 8 pixels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from adjobs.data.labels.masks import ANOMALOUS, NORMAL, UNKNOWN
from adjobs.errors import DataError
from adjobs.methods.contract import TrainingImages
from adjobs.methods.semirest.config import Config, Phase
from adjobs.methods.semirest.networks import STRIDE

UNDECIDED = 3  # too much defect for a normal token and too little for an anomalous one: ignored in training
CHECK_BATCH = 16  # images


def token_labels(masks: Tensor, unknown: Tensor, phase: Phase, config: Config) -> Tensor:
    """Label each token.

    Args:
        masks: ``(B, 1, H, W)`` bool, True on defects.
        unknown: ``(B, 1, H, W)`` bool, True where the label is unknown.
        phase: with ε+.
        config: with ε− and the least fraction of a normal token outside all boxes.

    Returns:
        ``(B, H / 8, W / 8)`` int64: NORMAL, ANOMALOUS, UNKNOWN or UNDECIDED.
    """
    defect_fraction, unknown_fraction = (F.avg_pool2d(pixels.float(), STRIDE)[:, 0] for pixels in (masks, unknown))
    tolerance = 1e-6
    labels = torch.full_like(defect_fraction, UNDECIDED, dtype=torch.long)
    labels = labels.masked_fill(defect_fraction <= config.max_defect_normal + tolerance, NORMAL)
    labels = labels.masked_fill(unknown_fraction > 1 - config.min_outside_boxes + tolerance, UNKNOWN)
    labels = labels.masked_fill(defect_fraction >= phase.min_defect_anomalous - tolerance, ANOMALOUS)
    # An anomalous image without boxes is unknown everywhere. Pseudo-labels would call most of it anomalous, as if it were a box.
    return labels.masked_fill((labels == UNKNOWN).flatten(1).all(1).view(-1, 1, 1), UNDECIDED)


def one_hot_targets(labels: Tensor) -> Tensor:
    """Class probabilities ``(…, 2)`` of tokens with known labels; meaningless for the others."""
    anomalous = labels == ANOMALOUS
    return torch.stack([~anomalous, anomalous], -1).float()


def check_labels(data: TrainingImages, phases: Sequence[Phase], config: Config) -> None:
    """Check that the labelled anomalies yield tokens to learn from.

    Raises:
        DataError: they yield none in one of the phases.
    """
    for phase in phases:
        if not phase.labelled:
            continue
        useful_label = UNKNOWN if phase.is_refinement else ANOMALOUS
        count = 0
        for batch in data.anomalous(CHECK_BATCH):
            count += int((token_labels(batch.masks, batch.unknown, phase, config) == useful_label).sum())
        if not count:
            level = config.supervision
            raise DataError(
                f"params.supervision {level}: none of {data.n_anomalous} labelled anomalies in the training split has {level} "
                "that cover a token (8 pixels); label some, or choose another supervision"
            )
