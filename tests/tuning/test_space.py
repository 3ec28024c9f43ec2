"""Search spaces: what they hold, what is refused, and that the five that come along fit their methods."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from adjobs import methods
from adjobs.config.job import JobConfig
from adjobs.config.resolve import resolve
from adjobs.errors import JobError
from adjobs.tuning.space import Axis, overlaps, parse_space, read_space

SPACES = Path(__file__).parents[2] / "tune_spaces"


def job(method: str = "cdo", **params: object) -> JobConfig:
    return resolve({"method": method, "data": {"uri": "pictures"}, "params": params})


def space(**axes: object):
    return parse_space({"method": "cdo", "axes": {key.replace("__", "."): told for key, told in axes.items()}}, "space")


def refusal(**axes: object) -> str:
    with pytest.raises(JobError) as error:
        space(**axes).check(job())
    assert "\n" not in str(error.value)
    return str(error.value)


JOBS = [*((method, {}) for method in methods.names()), *(("semirest", {"supervision": s}) for s in ("masks", "boxes"))]


@pytest.mark.parametrize(("method", "params"), JOBS)
def test_each_method_has_a_space_whose_every_end_fits(method, params):
    found = read_space(SPACES / f"{method}.yaml")
    assert found.method == method
    found.check(job(method, **params))


@pytest.mark.parametrize(("method", "params"), JOBS)
def test_the_dearer_axes_that_stand_there_as_comments_fit_too(method, params):
    text = re.sub(r"^  # (?=\w+\.\w+: )", "  ", (SPACES / f"{method}.yaml").read_text(), flags=re.MULTILINE)
    found = parse_space(yaml.safe_load(text), method)
    assert len(found.axes) > len(read_space(SPACES / f"{method}.yaml").axes)
    found.check(job(method, **params))


def test_an_axis_only_varies_where_its_condition_holds():
    both = space(params__mom={"choice": [True, False]}, params__rectangles={"randint": [1, 2], "when": {"params.mom": True}})
    assert both.grid(job()) == [
        {"params.mom": True, "params.rectangles": 1},
        {"params.mom": True, "params.rectangles": 2},
        {"params.mom": False},
    ]


def test_a_condition_may_be_met_by_the_job_alone():
    one = space(params__rectangles={"randint": [1, 2], "when": {"params.fill": ["gaussian"]}})
    assert len(one.grid(job(fill="gaussian"))) == 2
    with pytest.raises(JobError, match="nothing varies in this job"):
        one.check(job())
    beside = space(params__gamma={"uniform": [0, 4]}, params__rectangles={"randint": [1, 2], "when": {"params.fill": "gaussian"}})
    beside.check(job())
    assert beside.point_of(job()) == {"params.gamma": job().params["gamma"]}


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"params__rectangles": {"randint": [1, 2], "when": {"params.fill": "gausian"}}}, "params.fill: got 'gausian'"),
        ({"params__rectangles": {"randint": [-1, 2], "when": {"params.fill": "gaussian"}}}, "params.rectangles: got -1"),
        (
            {"params__mom": {"choice": [True]}, "params__rectangles": {"randint": [1, 2], "when": {"params.mom": False}}},
            "params.rectangles: its 'when' never holds",
        ),
    ],
)
def test_what_could_never_be_is_refused_though_the_job_does_not_ask_for_it(axes, message):
    assert message in refusal(**axes)


def test_divisions_that_depend_on_a_parameter_are_looked_at_with_it():
    found = space(
        params__mom={"choice": [True, False]},
        params__gamma={"uniform": [0, 4]},
        data__protocol={"choice": ["holdout", "liac"], "when": {"params.mom": False}},
    )
    assert list(found.sections(job())) == [
        {"params.mom": True},
        {"params.mom": False, "data.protocol": "holdout"},
        {"params.mom": False, "data.protocol": "liac"},
    ]


def test_numbers_with_a_step_are_counted_with_both_ends():
    assert Axis("params.x", "quniform", (0.1, 0.5, 0.1)).countable == (0.1, 0.2, 0.3, 0.4, 0.5)
    assert Axis("params.x", "randint", (2, 4)).countable == (2, 3, 4)


def test_a_boolean_is_no_number():
    assert not Axis("params.x", "choice", (0, 1)).holds(True)
    assert not Axis("params.x", "uniform", (0, 2)).holds(True)


def test_what_the_method_does_not_know_or_allow_is_refused_all_at_once():
    text = refusal(
        params__gama={"uniform": [0, 4]}, params__lr={"loguniform": [0.001, 2]}, data__image_size={"choice": [64, 100]}
    )
    assert "params.gama: unknown key" in text
    assert "did you mean gamma?" in text
    assert "params.lr: got 2; input should be less than or equal to 1" in text
    assert "data.image_size: got 100" in text


@pytest.mark.parametrize("key", ["data__seed", "train__seed", "data__uri", "threshold__value", "method", "gamma"])
def test_luck_pictures_and_thresholds_may_not_vary(key):
    assert "may not vary in a search" in refusal(**{key: {"choice": [1, 2]}})


@pytest.mark.parametrize(
    "told",
    [
        {"unifrom": [0, 1]},
        {"uniform": [1, 0]},
        {"uniform": [0]},
        {"uniform": ["a", "b"]},
        {"loguniform": [0, 1]},
        {"quniform": [0, 1, 0.3]},
        {"randint": [0, 1.5]},
        {"choice": []},
        {"choice": [[1]]},
        {"uniform": [0, 1], "choice": [1]},
        [0, 1],
        {"uniform": [0, float("inf")]},
    ],
)
def test_what_is_no_axis(told):
    assert "params.gamma: " in refusal(params__gamma=told)


def test_a_condition_on_what_comes_later():
    text = refusal(params__rectangles={"randint": [1, 2], "when": {"params.mom": True}}, params__mom={"choice": [True]})
    assert "params.mom must stand above it" in text


@pytest.mark.parametrize("document", [None, [], {"method": "cdo"}, {"method": "cdo", "axes": []}, {"method": "cod", "axes": {}}])
def test_what_is_no_space(document):
    with pytest.raises(JobError):
        parse_space(document, "space")


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(JobError, match="cannot be read"):
        read_space(tmp_path / "none.yaml")
    (tmp_path / "broken.yaml").write_text("{")
    with pytest.raises(JobError, match="not valid YAML"):
        read_space(tmp_path / "broken.yaml")


def test_a_grid_needs_values_that_can_be_counted():
    with pytest.raises(JobError, match=r"params.gamma: a grid needs values"):
        space(params__gamma={"uniform": [0, 1]}).grid(job())


def test_the_job_as_a_point():
    one = space(params__gamma={"uniform": [0, 4]}, params__fill={"choice": ["uniform", "gaussian"]})
    assert one.point_of(job()) == {"params.gamma": 2.0, "params.fill": "uniform"}
    assert one.point_of(job(gamma=5.0)) is None


def test_a_point_that_does_not_fit_together():
    both = space(params__first={"choice": [1, 3]}, params__levels={"choice": [2, 3]})
    assert both.job_at({"params.first": 3}, job()).params["first"] == 3
    with pytest.raises(JobError, match="first: got 3, must not exceed levels 2"):
        both.job_at({"params.first": 3, "params.levels": 2}, job())


def test_divisions_that_would_let_test_pictures_choose():
    one, other = ("a", frozenset("xy"), frozenset("z")), ("b", frozenset("x"), frozenset("yz"))
    assert overlaps([one, other]) == "with a, 1 pictures train or validate that are test pictures with b"
    assert overlaps([one, ("c", frozenset("x"), frozenset("z"))]) is None
