"""Objectives by name and direction, and the Pareto front."""

from __future__ import annotations

import pytest

from adjobs.config.job import JobConfig
from adjobs.config.resolve import resolve
from adjobs.errors import JobError
from adjobs.tuning.objective import Objective, pareto_front, parse_objectives


def make_job(method: str = "cdo", **params: object) -> JobConfig:
    return resolve({"method": method, "data": {"uri": "images"}, "params": params})


def test_parse_objectives_without_metric_takes_the_methods_own():
    assert parse_objectives((), make_job()) == (Objective("image_auroc", "max"),)
    assert parse_objectives((), make_job("liac")) == (Objective("image_macro_f1_at_0.5", "max"),)


def test_parse_objectives_minimises_costs_and_takes_directions():
    objectives = parse_objectives(("pixel_ap", "ms_per_image", "image_ap:min"), make_job())
    assert objectives == (Objective("pixel_ap", "max"), Objective("ms_per_image", "min"), Objective("image_ap", "min"))
    assert [objective.is_intermediate for objective in objectives] == [False, False, True]
    assert [objective.is_cost for objective in objectives] == [False, True, False]


@pytest.mark.parametrize(
    ("metrics", "method", "message"),
    [
        (("image_auc",), "cdo", "did you mean 'image_auroc'"),
        (("image_auroc:up",), "cdo", "give image_auroc:max or image_auroc:min"),
        (("image_auroc:",), "cdo", "give image_auroc:max or image_auroc:min"),
        (("image_ap", "image_ap:min"), "cdo", "give each metric once"),
        (("pixel_ap",), "liac", "unknown metric of a liac job"),
    ],
)
def test_parse_objectives_invalid_metric_is_refused(metrics, method, message):
    with pytest.raises(JobError, match=message):
        parse_objectives(metrics, make_job(method))


def test_parse_objectives_knows_pixel_metrics_of_methods_that_give_maps():
    assert parse_objectives(("pixel_ap",), make_job("liac", heat_map=True)) == (Objective("pixel_ap", "max"),)


def test_pareto_front_has_what_no_other_dominates():
    objectives = (Objective("image_auroc", "max"), Objective("ms_per_image", "min"))
    # 0 is the best, 1 the cheapest, 2 between; 3 is as good as 2 and costs more; 4 is worse than 1 in both.
    assert pareto_front([(0.9, 30), (0.5, 5), (0.8, 10), (0.8, 11), (0.4, 6)], objectives) == [0, 1, 2]
    assert pareto_front([(0.9, 1), (0.9, 1)], objectives) == [0, 1]
