"""Thresholds: exact with ties, with valid bounds on false alarms, and clear about what a policy cannot do."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from adjobs.errors import JobError
from adjobs.metrics.policies import POLICIES, ThresholdPolicy
from adjobs.metrics.threshold import check_possible, choose_threshold, false_alarm_bound, images_needed


def choose(name, labels, scores, **options):
    return choose_threshold(ThresholdPolicy(name, **options), labels, scores)


def choose_on_normal(scores, **options):
    return choose("max_fpr", np.zeros(len(scores), int), scores, **options)


def test_choose_threshold_max_fpr_matches_hand_calculation():
    """10 normal images, 0 to 9, at most 20 %: 8 and 9 may raise an alarm, 7 may not."""
    threshold = choose_on_normal(np.arange(10.0), value=0.2)
    assert 7 < threshold.value < 7.000001
    assert (threshold.false_alarms, threshold.n_normal, threshold.false_alarm_rate) == (2, 10, 0.2)


def test_choose_threshold_max_fpr_with_ties_stays_below_rate():
    """At most 2 of 5; the second and third highest tie, so that reaching them would be 3 of 5: only the highest may."""
    threshold = choose_on_normal([1.0, 2.0, 5.0, 5.0, 9.0], value=0.4)
    assert 5 < threshold.value < 5.00001
    assert threshold.false_alarms == 1


@pytest.mark.parametrize(("n", "value"), [(50, 0.01), (50, 0.0), (1, 0.5), (99, 0.01)])
def test_choose_threshold_max_fpr_of_less_than_one_image_is_above_all_normal_scores(n, value):
    scores = np.random.default_rng(n).normal(size=n)
    threshold = choose_on_normal(scores, value=value)
    assert threshold.value == np.nextafter(scores.max(), np.inf)
    assert threshold.false_alarms == 0


def test_choose_threshold_max_fpr_counts_without_rounding_error():
    """0.29 · 100 is 28.999999999999996 in floating point, yet 29 of 100 are 0.29."""
    assert choose_on_normal(np.arange(100.0), value=0.29).false_alarms == 29


@given(
    st.lists(st.integers(-4, 4) | st.floats(-1, 1), min_size=1, max_size=25),
    st.floats(0, 1, exclude_max=True),
)
def test_choose_threshold_max_fpr_is_lowest_that_keeps_rate(scores, value):
    scores = np.array(scores, dtype=float)
    threshold = choose_on_normal(scores, value=value)
    assert threshold.false_alarm_rate == (scores >= threshold.value).mean() <= value
    # Nothing lower does: the highest score below the threshold would raise an alarm and break the rate.
    assert (scores >= scores[scores < threshold.value].max()).mean() > value


def test_choose_threshold_max_fpr_on_float32_scores_holds_in_float32():
    """NumPy and PyTorch compare float32 scores with a Python float in float32."""
    scores = np.random.default_rng(0).random(40).astype(np.float32)
    threshold = choose_on_normal(scores, value=0.1)
    assert float(np.float32(threshold.value)) == threshold.value
    assert (scores >= threshold.value).sum() == threshold.false_alarms == 4


def test_choose_threshold_max_fpr_ignores_anomalies():
    normal = np.arange(10.0)
    labels = np.repeat([0, 1], [10, 3])
    threshold = choose("max_fpr", labels, [*normal, 3.0, 8.5, 20.0], value=0.2)
    assert threshold.value == choose_on_normal(normal, value=0.2).value
    assert (threshold.n_normal, threshold.n_anomalous) == (10, 3)


def test_choose_threshold_max_f1_matches_hand_calculation():
    """At 3: tp 2, fp 1, fn 0, F1 = 4/5. At 4: tp 1, fp 0, fn 1, F1 = 2/3. Lower ones add false alarms."""
    threshold = choose("max_f1", [0, 0, 0, 1, 1], [1, 2, 3, 3, 4])
    assert (threshold.value, threshold.false_alarms, threshold.n_anomalous) == (3.0, 1, 2)
    assert threshold.requested is None


def test_choose_threshold_fixed_is_unchanged():
    threshold = choose("fixed", [0, 0, 1], [0.2, 0.5, 0.9], value=0.5)
    assert (threshold.value, threshold.false_alarms, threshold.false_alarm_rate) == (0.5, 1, 0.5)


@pytest.mark.parametrize("labels", [[], [1]])
def test_choose_threshold_fixed_without_normal_images_has_no_rate(labels):
    threshold = choose("fixed", labels, [0.3] * len(labels), value=0.5)
    assert (threshold.false_alarm_rate, threshold.false_alarm_bound) == (None, None)
    assert threshold.describe() == "fixed 0.5: no normal validation images, so the false-alarm rate is unknown"


def test_false_alarm_bound_without_alarms_matches_formula():
    """0 of n: the rate p with (1 - p)^n = 0.05. 299 images are the fewest that show a rate below 1 %."""
    assert false_alarm_bound(0, 299) == pytest.approx(1 - 0.05 ** (1 / 299))
    assert 0.0099 < false_alarm_bound(0, 299) < 0.01 < false_alarm_bound(0, 298)


@pytest.mark.parametrize(("alarms", "n"), [(1, 10), (3, 301), (9, 10)])
def test_false_alarm_bound_matches_clopper_pearson_definition(alarms, n):
    """Clopper and Pearson's definition: at the bound, `alarms` or fewer of n have probability 1 - confidence."""
    for confidence in (0.9, 0.95, 0.99):
        bound = false_alarm_bound(alarms, n, confidence)
        assert stats.binom.cdf(alarms, n, bound) == pytest.approx(1 - confidence)


def test_false_alarm_bound_all_images_alarm_is_one():
    assert false_alarm_bound(7, 7) == 1.0
    assert choose("fixed", [0, 0], [1.0, 2.0], value=0.5).false_alarm_bound == 1.0


def test_false_alarm_bound_of_max_fpr_has_nominal_coverage():
    """The threshold is chosen on the same images: 2000 times 60 uniform scores, whose true rate is 1 - threshold."""
    rng = np.random.default_rng(0)
    holds = [
        1 - threshold.value <= threshold.false_alarm_bound
        for threshold in (choose_on_normal(rng.random(60), value=0.05) for _ in range(2000))
    ]
    assert np.mean(holds) == pytest.approx(0.95, abs=0.015)  # three standard errors


@pytest.mark.parametrize(
    ("rate", "confidence", "fewest"), [(0.01, 0.95, 299), (0.01, 0.99, 459), (0.05, 0.95, 59), (0.95, 0.95, 1)]
)
def test_images_needed_is_smallest_number(rate, confidence, fewest):
    assert images_needed(rate, confidence) == fewest
    assert false_alarm_bound(0, fewest, confidence) <= rate
    assert fewest == 1 or false_alarm_bound(0, fewest - 1, confidence) > rate


@given(st.floats(0, 1, exclude_max=True), st.floats(0.01, 0.999))
def test_images_needed_any_rate_satisfies_bound(rate, confidence):
    fewest = images_needed(rate, confidence)
    assert fewest is None or false_alarm_bound(0, fewest, confidence) <= rate * (1 + 1e-12)


def test_choose_threshold_max_fpr_not_strict_does_not_bound_rate():
    """3 of 301 are 1 %, but a rate of 2.5 % gives 3 of 301, too."""
    threshold = choose_on_normal(np.arange(301.0), value=0.01)
    assert (threshold.false_alarms, threshold.guaranteed, threshold.needed_normal, threshold.strict) == (3, False, 299, False)
    assert threshold.false_alarm_bound > 0.025


def test_choose_threshold_strict_keeps_bound_below_rate():
    strict = choose_on_normal(np.arange(301.0), value=0.01, strict=True)
    assert (strict.false_alarms, strict.guaranteed, strict.strict) == (0, True, True)
    assert strict.false_alarm_bound <= 0.01
    # From 473 on, one alarm may be allowed.
    assert [choose_on_normal(np.arange(n), value=0.01, strict=True).false_alarms for n in (472, 473)] == [0, 1]
    assert false_alarm_bound(1, 473) <= 0.01 < false_alarm_bound(1, 472)


@given(st.lists(st.integers(-9, 9) | st.floats(-1, 1), min_size=9, max_size=40), st.floats(0.3, 1, exclude_max=True))
def test_choose_threshold_strict_is_lowest_that_keeps_bound(scores, value):
    scores = np.array(scores, dtype=float)
    threshold = choose_on_normal(scores, value=value, strict=True)
    assert threshold.guaranteed
    assert false_alarm_bound(threshold.false_alarms, scores.size) <= value
    lower = int((scores >= scores[scores < threshold.value].max()).sum())
    assert false_alarm_bound(lower, scores.size) > value


def test_choose_threshold_strict_with_too_few_images_names_needed_number():
    with pytest.raises(JobError) as caught:
        choose_on_normal(np.arange(59.0), value=0.01, strict=True)
    assert str(caught.value) == (
        "threshold.strict: at most 1 % false alarms with 95 % confidence takes 299 normal validation images without an alarm, "
        "got 59, which bound it at 5.0 % at best; add normal images, set value to 0.0496, or set strict to false"
    )
    assert choose_on_normal(np.arange(59.0), value=0.0496, strict=True).guaranteed


def test_choose_threshold_miss_cost_matches_hand_calculation():
    """A miss at 3 false alarms: the cut at 4 costs 3 (a miss), at 3 it costs 1 (a false alarm). At half of one: 0.5 and 1."""
    labels, scores = [0, 0, 0, 1, 1], [1, 2, 3, 3, 4]
    assert choose("miss_cost", labels, scores, value=3).value == 3.0
    assert choose("miss_cost", labels, scores, value=0.5).value == 4.0
    assert choose("miss_cost", labels, scores, value=3).misses == 0
    assert choose("miss_cost", labels, scores, value=0.5).misses == 1


def test_choose_threshold_miss_cost_too_small_raises_no_alarm():
    """Each alarm on the anomaly at 1 raises two false ones, which cost more than the miss."""
    threshold = choose("miss_cost", [0, 0, 1], np.array([1, 2, 1], np.float32), value=1.5)
    assert threshold.value == np.nextafter(np.float32(2), np.float32(np.inf))
    assert (threshold.false_alarms, threshold.misses) == (0, 1)


def test_choose_threshold_defect_ratio_without_value_gives_as_many_alarms_as_anomalies():
    """3 of 7 are defective, so the 3 highest alarm: precision, recall and F1 are equal."""
    threshold = choose("defect_ratio", [0, 0, 1, 0, 1, 0, 1], [1, 2, 3, 4, 5, 6, 7])
    assert (threshold.value, threshold.requested) == (5.0, None)
    assert (threshold.false_alarms, threshold.misses) == (1, 1)


def test_choose_threshold_defect_ratio_with_value_needs_no_anomalies():
    assert choose("defect_ratio", [0] * 10, np.arange(10.0), value=0.3).value == 7.0


def test_describe_says_rates_and_bound():
    scores = np.arange(301.0)
    assert choose_on_normal(scores, value=0.01).describe() == (
        "max_fpr 0.01: 3 of 301 normal validation images raise an alarm (1.0 %, at most 2.6 % with 95 % confidence); "
        "not bounded at 1 %, with strict=true it would be"
    )
    assert (
        choose_on_normal(scores, value=0.01, strict=True)
        .describe()
        .endswith("1.0 % with 95 % confidence); bounded at 1 % (95 % confidence)")
    )
    assert (
        choose_on_normal(scores[:50], value=0.01)
        .describe()
        .endswith("; not bounded at 1 %, which takes 299 normal images without an alarm")
    )
    assert choose_on_normal(scores, value=0).describe().endswith("; no number of images bounds it at 0 %")
    assert choose("max_f1", [0, 1], [1, 2], confidence=0.99).describe() == (
        "max_f1: 0 of 1 normal validation image raises an alarm (0.0 %, at most 99.0 % with 99 % confidence), "
        "0 of 1 anomalous are missed"
    )


def test_to_dict_is_lossless_in_json():
    threshold = choose("max_f1", np.array([0, 1]), np.array([1, 2], dtype=np.float32))
    stored = json.loads(json.dumps(threshold.to_dict()))
    assert type(threshold)(**stored) == threshold
    with pytest.raises(dataclasses.FrozenInstanceError):
        threshold.value = 0.0


IMPOSSIBLE = [
    ("max_f2", [0, 1], {}, r"unknown policy 'max_f2'; available: defect_ratio, fixed, .*; did you mean 'max_f1'\?"),
    ("max_f1", [0, 0], {}, "has 0 anomalous images, needs at least 1; use max_fpr, or label anomalies"),
    ("max_f1", [1, 1], {}, "has 0 normal images, needs at least 1"),
    ("max_f1", [0, 1], {"value": 0.5}, "max_f1: got value 0.5, allowed is no value; leave it out"),
    ("max_fpr", [1, 1], {"value": 0.1}, "has 0 normal images, needs at least 1"),
    ("max_fpr", [0, 1], {}, "max_fpr: got value None, allowed is 0 or more and below 1; set value"),
    ("max_fpr", [0, 1], {"value": 1.0}, "max_fpr: got value 1.0, allowed"),
    ("max_fpr", [0, 1], {"value": -0.1}, "max_fpr: got value -0.1, allowed"),
    ("max_fpr", [0, 1], {"value": float("nan")}, "max_fpr: got value nan, allowed"),
    ("fixed", [0, 1], {}, "fixed: got value None, allowed is a finite number; set value"),
    ("fixed", [0, 1], {"value": float("inf")}, "fixed: got value inf, allowed is a finite number"),
    ("max_f1", [0, 1], {"confidence": 1.0}, "threshold.confidence: got 1.0, allowed"),
    ("miss_cost", [0, 1], {}, "miss_cost: got value None, allowed is a finite number above 0; set value"),
    ("miss_cost", [0, 1], {"value": 0.0}, "miss_cost: got value 0.0, allowed"),
    ("miss_cost", [0, 1], {"value": float("inf")}, "miss_cost: got value inf, allowed"),
    ("miss_cost", [0, 0], {"value": 2}, "miss_cost: validation has 0 anomalous images"),
    ("miss_cost", [1, 1], {"value": 2}, "miss_cost: validation has 0 normal images"),
    ("defect_ratio", [0, 0], {}, "defect_ratio: validation has 0 anomalous images, needs at least 1; give it a value"),
    ("defect_ratio", [0, 1], {"value": 1.0}, "defect_ratio: got value 1.0, allowed is above 0 and below 1"),
    ("max_f1", [0, 1], {"strict": True}, "max_f1: got strict=true, allowed with max_fpr only"),
    ("max_fpr", [0, 1], {"strict": True, "value": 0}, "got value 0 with strict=true, a bound that no number of images reaches"),
    ("max_fpr", [0, 1], {"strict": True, "value": 0.9}, "takes 2 normal validation images without an alarm, got 1"),
]


@pytest.mark.parametrize(("policy", "labels", "options", "message"), IMPOSSIBLE)
def test_choose_threshold_impossible_policy_is_refused(policy, labels, options, message):
    with pytest.raises(JobError, match=message) as caught:
        choose(policy, labels, [0.1, 0.2], **options)
    assert "\n" not in str(caught.value)
    with pytest.raises(JobError) as checked:
        check_possible(ThresholdPolicy(policy, **options), labels.count(0), labels.count(1))
    assert str(checked.value) == str(caught.value)


@pytest.mark.parametrize("policy", POLICIES)
def test_choose_threshold_scores_not_finite_are_refused(policy):
    with pytest.raises(ValueError, match="scores: 1 of 2 values are NaN or infinite"):
        choose(policy, [0, 1], [np.nan, 0.2], value=None if policy == "max_f1" else 0.5)


@pytest.mark.parametrize("options", [{"name": "max_fpr", "value": 0.0}, {"name": "miss_cost", "value": 1e-9}])
def test_choose_threshold_that_no_number_can_hold_is_refused(options):
    largest = float(np.finfo(np.float32).max)
    with pytest.raises(JobError, match=r"^threshold: policy .* gives inf, must be finite; the scores are too large: train again"):
        choose(labels=[0, 1], scores=[largest, largest], **options)
