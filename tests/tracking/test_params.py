"""The parameters that a run shows."""

from __future__ import annotations

import pytest

from adjobs import methods
from adjobs.config.resolve import resolve
from adjobs.tracking.params import distinguishing_params

ALWAYS = {"method": "cdo", "data.uri": "images", "data.image_size": "256"}


def job(method: str = "cdo", **sections):
    return resolve({"method": method, "data": {"uri": "images"}, **sections})


@pytest.mark.parametrize("method", methods.names())
def test_distinguishing_params_of_a_job_with_defaults_are_few(method):
    assert distinguishing_params(job(method)) == {**ALWAYS, "method": method}


def test_distinguishing_params_are_those_that_are_not_defaults():
    changed = job(params={"gamma": 3}, train={"seed": 7}, threshold={"value": 0.02}, track={"experiment": "line"})
    expected = {**ALWAYS, "params.gamma": "3.0", "train.seed": "7", "threshold.value": "0.02"}
    assert distinguishing_params(changed) == expected


def test_distinguishing_params_have_what_a_search_varies_also_at_its_default():
    assert distinguishing_params(job(), ["params.gamma"]) == {**ALWAYS, "params.gamma": "2.0"}


def test_distinguishing_params_of_a_preset_have_its_values():
    shown = distinguishing_params(job(preset="paper"))
    assert shown["preset"] == "paper"
    assert shown["params.backbone"] == "hrnet_w32"
