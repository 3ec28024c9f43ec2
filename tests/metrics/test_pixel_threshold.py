"""Pixel thresholds: worked by hand on a few pixels, and clear about what is not known."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from adjobs.errors import JobError
from adjobs.metrics.pixel_threshold import check_pixels_possible, choose_pixels, default_pixel_policy, describe_pixels
from adjobs.metrics.policies import POLICIES
from adjobs.metrics.threshold import false_alarm_bound

# A good image and an anomalous one with two defect pixels, at 5 and 8.
MAPS = np.array([[[1, 2], [3, 6]], [[4, 5], [7, 8]]], dtype=np.float32)
MASKS = np.array([[[0, 0], [0, 0]], [[0, 1], [0, 1]]], dtype=bool)
LABELS = [0, 1]


def chosen(policy, value=None, maps=MAPS, masks=MASKS, labels=LABELS):
    return choose_pixels(policy, maps, masks, labels, value=value)


def test_max_f1_by_hand():
    """At 8: 2/(2+1). At 5: 4/(2+4), the same; the higher is taken. In between and below there are more false alarms."""
    threshold = chosen("max_f1")
    assert (threshold.value, threshold.f1) == (8.0, pytest.approx(2 / 3))
    assert (threshold.n_normal, threshold.n_anomalous, threshold.marked_images) == (1, 1, 0)


def test_max_fpr_counts_pixels_of_good_images_alone():
    """One of the four pixels of the good image may be marked: 6, but not 3. The anomalous image does not matter."""
    threshold = chosen("max_fpr", 0.25)
    assert threshold.value == np.nextafter(np.float32(3), np.float32(np.inf))
    assert (threshold.false_alarm_rate, threshold.marked_images, threshold.marked_rate) == (0.25, 1, 1.0)
    assert chosen("max_fpr", 0.2).value == np.nextafter(np.float32(6), np.float32(np.inf))


def test_miss_cost_by_hand():
    """Cost at 8 with a miss at c: c + 0; at 5: 2 false alarms (6 and 7). Above 8: 2c."""
    assert chosen("miss_cost", 3).value == 5.0
    assert chosen("miss_cost", 1.5).value == 8.0


def test_defect_ratio_marks_as_many_pixels_as_the_masks_hold():
    assert chosen("defect_ratio").value == 7.0
    assert chosen("defect_ratio", 0.4, masks=None).value == 6.0  # 3 of 8 are nearer to 3.2 than 4 are


def test_fixed_is_taken_as_it_is_and_compares_in_single_precision():
    threshold = chosen("fixed", 0.1, maps=np.full((1, 2, 2), 0.1, np.float32), masks=None, labels=[0])
    assert (threshold.value, threshold.false_alarm_rate, threshold.f1) == (0.1, 1.0, None)


def test_pixels_have_no_bound_but_good_images_with_a_marked_pixel_do():
    maps = np.zeros((50, 4, 4), np.float32)
    maps[:3, 0, :2] = 1
    threshold = chosen("fixed", 0.5, maps=maps, masks=None, labels=[0] * 50)
    assert threshold.false_alarm_bound is None
    assert threshold.false_alarm_rate == 6 / 800
    assert (threshold.marked_images, threshold.marked_rate) == (3, 0.06)
    assert threshold.marked_bound == false_alarm_bound(3, 50)
    assert describe_pixels(threshold) == (
        "fixed 0.5: 0.75 % of the pixels of good validation images are marked (without a bound: pixels of an image depend on "
        "each other); 3 of 50 good images have a marked pixel (6.0 %, at most 14.8 % with 95 % confidence)"
    )


def test_without_good_images_nothing_is_said_of_them():
    threshold = chosen("max_f1", maps=MAPS[1:], masks=MASKS[1:], labels=[1])
    assert (threshold.false_alarm_rate, threshold.marked_rate, threshold.marked_bound) == (None, None, None)
    assert "not known" in describe_pixels(threshold)


maps_and_masks = st.tuples(
    arrays.arrays(np.float32, (3, 2, 3), elements=st.integers(0, 5).map(float)), arrays.arrays(bool, (3, 2, 3))
).filter(lambda drawn: drawn[1].any() and not drawn[1].all())


@given(maps_and_masks, st.integers(1, 30))
def test_no_other_cut_is_better(drawn, cost):
    maps, masks = drawn
    cuts = [np.inf, *np.unique(maps)[::-1]]
    found = [int((maps[masks] >= cut).sum()) for cut in cuts]
    alarms = [int((maps[~masks] >= cut).sum()) for cut in cuts]
    f1 = [2 * f / (masks.sum() + f + a) for f, a in zip(found, alarms, strict=True)]
    costs = [cost * (masks.sum() - f) + a for f, a in zip(found, alarms, strict=True)]
    best = choose_pixels("max_f1", maps, masks, [0, 0, 1])
    assert (best.value, best.f1) == (cuts[int(np.argmax(f1))], max(f1))
    cheapest = choose_pixels("miss_cost", maps, masks, [0, 0, 1], value=cost).value
    np.testing.assert_array_equal(maps >= cheapest, maps >= cuts[int(np.argmin(costs))])


@given(arrays.arrays(np.float32, (2, 3, 3), elements=st.floats(0, 1, width=32)), st.floats(0, 1, exclude_max=True))
def test_max_fpr_is_the_lowest_that_keeps_the_rate(maps, value):
    threshold = choose_pixels("max_fpr", maps, None, [0, 0], value=value)
    assert threshold.false_alarm_rate == (maps >= threshold.value).mean() <= value
    assert (maps >= maps[maps < threshold.value].max()).mean() > value


def test_what_it_is_given_is_not_changed():
    maps = MAPS.copy()
    for policy, value in (("max_f1", None), ("max_fpr", 0.1), ("miss_cost", 2), ("defect_ratio", 0.5), ("fixed", 1)):
        chosen(policy, value, maps=maps)
    np.testing.assert_array_equal(maps, MAPS)


def test_the_default_follows_the_masks():
    assert default_pixel_policy(True) == ("max_f1", None)
    assert default_pixel_policy(False) == ("max_fpr", 0.001)
    for has_masks in (True, False):
        policy, value = default_pixel_policy(has_masks)
        check_pixels_possible(policy, 1, has_masks, value=value)


def test_to_dict_is_json_and_complete():
    threshold = chosen("max_f1")
    assert type(threshold)(**json.loads(json.dumps(threshold.to_dict()))) == threshold


@pytest.mark.parametrize(
    ("policy", "options", "message"),
    [
        ("max_f2", {}, r"pixel_threshold\.policy 'max_f2': no such policy; have .*; did you mean max_f1"),
        ("max_f1", {"masks": None}, r"pixel_threshold\.policy max_f1: needs a mask for each anomaly"),
        ("max_f1", {"masks": np.zeros_like(MASKS)}, "max_f1: needs a mask"),
        ("miss_cost", {"masks": None, "value": 3}, "miss_cost: needs a mask"),
        ("defect_ratio", {"masks": None}, "defect_ratio: needs a mask"),
        ("max_fpr", {"labels": [1, 1], "value": 0.1}, "max_fpr: validation has 0 good images"),
        ("max_fpr", {}, r"pixel_threshold\.policy max_fpr: got value None, allowed is 0 or more and below 1"),
    ],
)
def test_what_a_policy_cannot_do_is_the_users_error(policy, options, message):
    with pytest.raises(JobError, match=message) as caught:
        chosen(policy, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("policy", POLICIES)
def test_maps_that_are_not_finite_and_labels_that_do_not_fit_are_refused(policy):
    value = None if policy == "max_f1" else 0.5
    with pytest.raises(ValueError, match="maps: 1 of 8 values are NaN or infinite"):
        chosen(policy, value, maps=np.where(MAPS == 1, np.nan, MAPS))
    with pytest.raises(ValueError, match="labels and maps: got 1 and 2"):
        chosen(policy, value, labels=[0])
