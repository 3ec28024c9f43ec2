"""Both thresholds of a run: what the job names, and what follows from the masks otherwise."""

from __future__ import annotations

import json

import numpy as np
import pytest

from adjobs.evaluation.thresholds import Thresholds, choose_thresholds
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


def test_thresholds_are_lossless_in_json(loco_scores):
    both = choose_thresholds(IMAGE, None, loco_scores)
    for thresholds in (both, Thresholds(both.image)):
        assert Thresholds.from_dict({**json.loads(json.dumps(thresholds.to_dict())), "history": []}) == thresholds


def test_thresholds_from_dict_without_image_threshold_is_refused():
    with pytest.raises(TypeError, match="image: got null"):
        Thresholds.from_dict({"image": None, "pixel": None})
