"""Objectives by name and direction, and which trials no other beats."""

from __future__ import annotations

import pytest

from adjobs.config.resolve import resolve
from adjobs.errors import JobError
from adjobs.tuning.objective import Objective, objectives, pareto


def job(method: str = "cdo", **params: object):
    return resolve({"method": method, "data": {"uri": "pictures"}, "params": params})


def test_the_methods_own_metric_is_the_default():
    assert objectives((), job()) == (Objective("image_auroc", "max"),)
    assert objectives((), job("liac")) == (Objective("image_macro_f1_at_0.5", "max"),)


def test_costs_are_better_when_small_and_a_direction_can_be_given():
    found = objectives(("pixel_ap", "ms_per_image", "image_ap:min"), job())
    assert found == (Objective("pixel_ap", "max"), Objective("ms_per_image", "min"), Objective("image_ap", "min"))
    assert [goal.every_round for goal in found] == [False, False, True]


@pytest.mark.parametrize(
    ("told", "method", "message"),
    [
        (("image_auc",), "cdo", "did you mean image_auroc"),
        (("image_auroc:up",), "cdo", "give image_auroc:max or image_auroc:min"),
        (("image_ap", "image_ap:min"), "cdo", "give each metric once"),
        (("pixel_ap",), "liac", "no such metric"),
    ],
)
def test_what_is_no_objective(told, method, message):
    with pytest.raises(JobError, match=message):
        objectives(told, job(method))


def test_a_method_with_a_switch_for_maps_has_pixel_metrics_with_it():
    assert objectives(("pixel_ap",), job("liac", heat_map=True)) == (Objective("pixel_ap", "max"),)


def test_the_front_is_what_no_other_beats():
    goals = (Objective("image_auroc", "max"), Objective("ms_per_image", "min"))
    # 0 is the best, 1 the cheapest, 2 between; 3 is as good as 2 and dearer; 4 is worse than 1 in both.
    assert pareto([(0.9, 30), (0.5, 5), (0.8, 10), (0.8, 11), (0.4, 6)], goals) == [0, 1, 2]
    assert pareto([(0.9, 1), (0.9, 1)], goals) == [0, 1]
