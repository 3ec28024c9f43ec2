"""Parameters of a search space: their values, and definitions that are refused."""

from __future__ import annotations

import pytest

from adjobs.tuning.parameter import DISTRIBUTIONS, Parameter, parse_parameter


def parse(definition: object, key: str = "params.gamma", earlier: tuple[str, ...] = (), keys: tuple[str, ...] = ()) -> Parameter:
    return parse_parameter(key, definition, "cdo", earlier, keys)


def test_grid_values_with_a_step_include_both_bounds():
    assert Parameter("params.x", "quniform", (0.1, 0.5, 0.1)).grid_values == (0.1, 0.2, 0.3, 0.4, 0.5)
    assert Parameter("params.x", "randint", (2, 4)).grid_values == (2, 3, 4)
    assert Parameter("params.x", "uniform", (2, 4)).grid_values is None


def test_contains_boolean_is_not_a_number():
    assert not Parameter("params.x", "choice", (0, 1)).contains(True)
    assert not Parameter("params.x", "uniform", (0, 2)).contains(True)
    assert Parameter("params.x", "uniform", (0, 2)).contains(1)


def test_bounds_of_a_choice_are_all_its_values():
    assert Parameter("params.x", "choice", ("a", "b", "c")).bounds == ("a", "b", "c")
    assert Parameter("params.x", "quniform", (0, 1, 0.5)).bounds == (0, 1)


@pytest.mark.parametrize(
    "definition",
    [{"uniform": [0, 4]}, {"choice": [None, True, 1, "a"]}, {"randint": [1, 2], "when": {"params.mom": [True]}}],
)
def test_to_dict_is_what_was_parsed(definition):
    assert parse(definition).to_dict() == definition


@pytest.mark.parametrize("key", ["data.seed", "train.seed", "data.uri", "threshold.value", "method", "gamma"])
def test_parse_parameter_seeds_images_and_thresholds_may_not_vary(key):
    with pytest.raises(ValueError, match="may not vary in a search"):
        parse({"choice": [1, 2]}, key)


@pytest.mark.parametrize(
    "definition",
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
        {"uniform": [0, 1], "wen": {}},
        [0, 1],
        {"uniform": [0, float("inf")]},
        {"uniform": [0, 1], "when": ["params.mom"]},
    ],
)
def test_parse_parameter_invalid_definition_is_refused(definition):
    with pytest.raises(ValueError, match="got "):
        parse(definition)


def test_parse_parameter_condition_on_a_later_key_is_refused():
    definition = {"randint": [1, 2], "when": {"params.mom": True}}
    with pytest.raises(ValueError, match=r"params\.mom must be declared before it"):
        parse(definition, "params.rectangles", (), ("params.rectangles", "params.mom"))
    parameter = parse(definition, "params.rectangles", ("params.mom",), ("params.mom", "params.rectangles"))
    assert parameter.when == {"params.mom": (True,)}


def test_every_distribution_has_a_description():
    assert set(DISTRIBUTIONS) == {"uniform", "loguniform", "quniform", "randint", "choice"}
