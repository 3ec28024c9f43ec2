"""Threshold policies: which values they take, and how they are named."""

import math
from typing import get_args

import pytest

from adjobs.metrics.policies import POLICIES, Policy, ThresholdPolicy

VALID = {"fixed": [-3.0, 0.5], "max_f1": [None], "max_fpr": [0.0, 0.99], "miss_cost": [0.1, 20], "defect_ratio": [None, 0.3]}
INVALID = {
    "fixed": [None, math.inf, math.nan],
    "max_f1": [0.5],
    "max_fpr": [None, 1.0, -0.1, math.nan],
    "miss_cost": [None, 0.0, math.inf],
    "defect_ratio": [0.0, 1.0],
}


def test_policies_are_all_described():
    assert set(POLICIES) == set(get_args(Policy))


@pytest.mark.parametrize("name", POLICIES)
def test_find_fault_accepts_valid_values_only(name):
    assert [ThresholdPolicy(name, value).find_fault() for value in VALID[name]] == [None] * len(VALID[name])
    for value in INVALID[name]:
        fault = ThresholdPolicy(name, value).find_fault()
        assert fault is not None
        assert fault.startswith(f"policy {name}: got value {value}, allowed is ")


def test_find_fault_strict_is_for_max_fpr_with_positive_value():
    assert ThresholdPolicy("max_fpr", 0.1, strict=True).find_fault() is None
    assert "allowed with max_fpr only" in (ThresholdPolicy("max_f1", strict=True).find_fault() or "")
    assert "a bound that no number of images reaches" in (ThresholdPolicy("max_fpr", 0.0, strict=True).find_fault() or "")


def test_needs_anomalies_is_true_for_policies_that_weigh_misses():
    needing = {name for name in POLICIES if ThresholdPolicy(name, VALID[name][0]).needs_anomalies}
    assert needing == {"max_f1", "miss_cost", "defect_ratio"}
    assert not ThresholdPolicy("defect_ratio", 0.3).needs_anomalies


def test_str_has_name_and_value():
    assert str(ThresholdPolicy("max_fpr", 0.01)) == "max_fpr 0.01"
    assert str(ThresholdPolicy("max_f1")) == "max_f1"
