"""Pixel thresholds: calculated by hand on a few pixels, and None for what is unknown."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from adjobs.errors import JobError
from adjobs.metrics.pixel_threshold import check_pixels_possible, choose_pixel_threshold, default_pixel_policy
from adjobs.metrics.policies import POLICIES, ThresholdPolicy
from adjobs.metrics.threshold import false_alarm_bound

# A normal image and an anomalous one with two defect pixels, at 5 and 8.
MAPS = np.array([[[1, 2], [3, 6]], [[4, 5], [7, 8]]], dtype=np.float32)
MASKS = np.array([[[0, 0], [0, 0]], [[0, 1], [0, 1]]], dtype=bool)
LABELS = [0, 1]


def choose(name, value=None, maps=MAPS, masks=MASKS, labels=LABELS):
    return choose_pixel_threshold(ThresholdPolicy(name, value), maps, masks, labels)


def test_choose_pixel_threshold_max_f1_matches_hand_calculation():
    """At 8: 2/(2+1). At 5: 4/(2+4), the same; the higher is taken. In between and below there are more false alarms."""
    threshold = choose("max_f1")
    assert (threshold.value, threshold.f1) == (8.0, pytest.approx(2 / 3))
    assert (threshold.n_normal, threshold.n_anomalous, threshold.image_false_alarms) == (1, 1, 0)


def test_choose_pixel_threshold_max_fpr_counts_pixels_of_normal_images_only():
    """One of the four pixels of the normal image may alarm: 6, but not 3. The anomalous image does not matter."""
    threshold = choose("max_fpr", 0.25)
    assert threshold.value == np.nextafter(np.float32(3), np.float32(np.inf))
    assert (threshold.false_alarm_rate, threshold.image_false_alarms, threshold.image_false_alarm_rate) == (0.25, 1, 1.0)
    assert choose("max_fpr", 0.2).value == np.nextafter(np.float32(6), np.float32(np.inf))


def test_choose_pixel_threshold_miss_cost_matches_hand_calculation():
    """Cost at 8 with a miss at c: c + 0; at 5: 2 false alarms (6 and 7). Above 8: 2c."""
    assert choose("miss_cost", 3).value == 5.0
    assert choose("miss_cost", 1.5).value == 8.0


def test_choose_pixel_threshold_defect_ratio_predicts_as_many_pixels_as_the_masks_hold():
    assert choose("defect_ratio").value == 7.0
    assert choose("defect_ratio", 0.4, masks=None).value == 6.0  # 3 of 8 are nearer to 3.2 than 4 are


def test_choose_pixel_threshold_fixed_is_unchanged_and_compares_in_float32():
    threshold = choose("fixed", 0.1, maps=np.full((1, 2, 2), 0.1, np.float32), masks=None, labels=[0])
    assert (threshold.value, threshold.false_alarm_rate, threshold.f1) == (0.1, 1.0, None)


def test_choose_pixel_threshold_bounds_images_but_not_pixels():
    maps = np.zeros((50, 4, 4), np.float32)
    maps[:3, 0, :2] = 1
    threshold = choose("fixed", 0.5, maps=maps, masks=None, labels=[0] * 50)
    assert threshold.false_alarm_bound is None
    assert threshold.false_alarm_rate == 6 / 800
    assert (threshold.image_false_alarms, threshold.image_false_alarm_rate) == (3, 0.06)
    assert threshold.image_false_alarm_bound == false_alarm_bound(3, 50)
    assert threshold.describe() == (
        "fixed 0.5: 0.75 % of the pixels of normal validation images are false alarms (without a bound: pixels of an image "
        "depend on each other); 3 of 50 normal images have such a pixel (6.0 %, at most 14.8 % with 95 % confidence)"
    )


def test_choose_pixel_threshold_without_normal_images_has_no_rates():
    threshold = choose("max_f1", maps=MAPS[1:], masks=MASKS[1:], labels=[1])
    assert (threshold.false_alarm_rate, threshold.image_false_alarm_rate, threshold.image_false_alarm_bound) == (None, None, None)
    assert "no normal validation images, so the false-alarm rate of their pixels is unknown" in threshold.describe()


maps_and_masks = st.tuples(
    arrays.arrays(np.float32, (3, 2, 3), elements=st.integers(0, 5).map(float)), arrays.arrays(bool, (3, 2, 3))
).filter(lambda drawn: drawn[1].any() and not drawn[1].all())


@given(maps_and_masks, st.integers(1, 30))
def test_choose_pixel_threshold_max_f1_and_miss_cost_are_best_of_all_cuts(drawn, cost):
    maps, masks = drawn
    cuts = [np.inf, *np.unique(maps)[::-1]]
    true_positives = [int((maps[masks] >= cut).sum()) for cut in cuts]
    false_positives = [int((maps[~masks] >= cut).sum()) for cut in cuts]
    f1 = [2 * tp / (masks.sum() + tp + fp) for tp, fp in zip(true_positives, false_positives, strict=True)]
    costs = [cost * (masks.sum() - tp) + fp for tp, fp in zip(true_positives, false_positives, strict=True)]
    best = choose("max_f1", None, maps, masks, [0, 0, 1])
    assert (best.value, best.f1) == (cuts[int(np.argmax(f1))], max(f1))
    cheapest = choose("miss_cost", cost, maps, masks, [0, 0, 1]).value
    np.testing.assert_array_equal(maps >= cheapest, maps >= cuts[int(np.argmin(costs))])


@given(arrays.arrays(np.float32, (2, 3, 3), elements=st.floats(0, 1, width=32)), st.floats(0, 1, exclude_max=True))
def test_choose_pixel_threshold_max_fpr_is_lowest_that_keeps_rate(maps, value):
    threshold = choose("max_fpr", value, maps, None, [0, 0])
    assert threshold.false_alarm_rate == (maps >= threshold.value).mean() <= value
    assert (maps >= maps[maps < threshold.value].max()).mean() > value


def test_choose_pixel_threshold_leaves_arguments_unchanged():
    maps = MAPS.copy()
    for policy, value in (("max_f1", None), ("max_fpr", 0.1), ("miss_cost", 2), ("defect_ratio", 0.5), ("fixed", 1)):
        choose(policy, value, maps=maps)
    np.testing.assert_array_equal(maps, MAPS)


def test_default_pixel_policy_depends_on_masks():
    assert default_pixel_policy(True) == ThresholdPolicy("max_f1")
    assert default_pixel_policy(False, 0.9) == ThresholdPolicy("max_fpr", 0.001, 0.9)
    for has_masks in (True, False):
        check_pixels_possible(default_pixel_policy(has_masks), 1, has_masks)


def test_to_dict_is_lossless_in_json():
    threshold = choose("max_f1")
    assert type(threshold)(**json.loads(json.dumps(threshold.to_dict()))) == threshold


@pytest.mark.parametrize(
    ("policy", "options", "message"),
    [
        ("max_f2", {}, r"pixel_threshold\.policy: unknown policy 'max_f2'; available: .*; did you mean 'max_f1'"),
        ("max_f1", {"masks": None}, r"pixel_threshold\.policy max_f1: needs a mask for each anomalous validation image"),
        ("max_f1", {"masks": np.zeros_like(MASKS)}, "max_f1: needs a mask"),
        ("miss_cost", {"masks": None, "value": 3}, "miss_cost: needs a mask"),
        ("defect_ratio", {"masks": None}, "defect_ratio: needs a mask"),
        ("max_fpr", {"labels": [1, 1], "value": 0.1}, "max_fpr: validation has 0 normal images"),
        ("max_fpr", {}, r"pixel_threshold\.policy max_fpr: got value None, allowed is 0 or more and below 1"),
    ],
)
def test_choose_pixel_threshold_impossible_policy_is_refused(policy, options, message):
    with pytest.raises(JobError, match=message) as caught:
        choose(policy, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("policy", POLICIES)
def test_choose_pixel_threshold_invalid_maps_and_labels_are_refused(policy):
    value = None if policy == "max_f1" else 0.5
    with pytest.raises(ValueError, match="maps: 1 of 8 values are NaN or infinite"):
        choose(policy, value, maps=np.where(MAPS == 1, np.nan, MAPS))
    with pytest.raises(ValueError, match="labels and maps: got 1 and 2"):
        choose(policy, value, labels=[0])


def test_choose_pixel_threshold_that_no_number_can_hold_is_refused():
    maps = np.full_like(MAPS, np.finfo(np.float32).max, dtype=np.float32)
    with pytest.raises(JobError, match=r"^pixel_threshold: policy max_fpr 0 gives inf, must be finite"):
        choose("max_fpr", 0.0, maps)
