"""The parameters that a run shows."""

from __future__ import annotations

import pytest

from adjobs import methods
from adjobs.config.resolve import resolve
from adjobs.tracking.params import distinguishing_params


def job(method: str = "cdo", **sections):
    return resolve({"method": method, "data": {"uri": "images"}, **sections})


def beside_the_methods(**values: str) -> dict[str, str]:
    return {key: value for key, value in values.items() if not key.startswith("params.")}


@pytest.mark.parametrize("method", methods.names())
def test_distinguishing_params_of_a_job_with_defaults_are_those_of_the_method(method):
    shown = distinguishing_params(job(method))
    assert beside_the_methods(**shown) == {"method": method, "data.uri": "images", "data.image_size": "256"}
    assert {f"params.{name}" for name in methods.config_class(method).model_fields} <= set(shown)


def test_distinguishing_params_have_what_is_not_the_default():
    changed = job(params={"gamma": 3}, train={"seed": 7}, threshold={"value": 0.02}, track={"experiment": "line"})
    added = set(distinguishing_params(changed).items()) - set(distinguishing_params(job()).items())
    assert added == {("params.gamma", "3.0"), ("train.seed", "7"), ("threshold.value", "0.02")}


def test_distinguishing_params_have_what_a_search_varies_also_at_its_default():
    assert distinguishing_params(job(), ["train.seed"])["train.seed"] == "0"


def test_distinguishing_params_of_a_preset_name_it():
    assert distinguishing_params(job(preset="paper"))["preset"] == "paper"
