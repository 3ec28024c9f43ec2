"""Both thresholds of a run: what the job names, and what follows from the masks otherwise."""

from __future__ import annotations

import numpy as np
import pytest

from adjobs.evaluation.thresholds import choose_thresholds
from adjobs.metrics.policies import ThresholdPolicy

IMAGE = ThresholdPolicy("max_f1", confidence=0.9)


def test_choose_thresholds_uses_explicit_policies(loco_scores):
    thresholds = choose_thresholds(IMAGE, ThresholdPolicy("fixed", 1.2), loco_scores)
    assert (thresholds.image.policy, thresholds.image.confidence) == ("max_f1", 0.9)
    assert (thresholds.pixel.policy, thresholds.pixel_value) == ("fixed", 1.2)


@pytest.mark.parametrize(("masks", "policy"), [("known", "max_f1"), ("empty", "max_fpr"), ("unknown", "max_fpr")])
def test_choose_thresholds_default_pixel_policy_depends_on_masks(loco_scores, masks, policy):
    stored = {"known": loco_scores.masks, "empty": np.zeros_like(loco_scores.masks), "unknown": None}[masks]
    pixel = choose_thresholds(IMAGE, None, loco_scores._replace(masks=stored)).pixel
    assert (pixel.policy, pixel.confidence) == (policy, 0.9)


def test_choose_thresholds_without_maps_has_no_pixel_threshold(loco_scores):
    thresholds = choose_thresholds(IMAGE, ThresholdPolicy("fixed", 1.2), loco_scores._replace(anomaly_maps=None))
    assert (thresholds.pixel, thresholds.pixel_value) == (None, None)
