"""Parameters of a search space: their values, and definitions that are refused."""

from __future__ import annotations

import pytest

from adjobs.tuning.parameter import DISTRIBUTIONS, Parameter, parse_parameter


def parse(definition: object, key: str = "params.gamma", earlier: tuple[str, ...] = (), keys: tuple[str, ...] = ()) -> Parameter:
    return parse_parameter(key, definition, "cdo", earlier, keys)


def test_grid_values_with_a_step_include_both_bounds():
    assert list(Parameter("params.x", "quniform", (0.1, 0.5, 0.1)).grid_values()) == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert list(Parameter("params.x", "randint", (2, 4)).grid_values()) == [2, 3, 4]
    assert list(Parameter("params.x", "uniform", (2, 4)).grid_values()) == []


@pytest.mark.parametrize(
    ("distribution", "values", "size"),
    [
        ("uniform", (0, 1), None),
        ("choice", ("a", "b"), 2),
        ("randint", (1, 10**12), 10**12),
        ("quniform", (0.1, 0.5, 0.1), 5),
        ("quniform", (0, 1e9, 0.01), 10**11 + 1),
        ("quniform", (0, 3e-300, 1e-300), 4),
    ],
)
def test_size_is_the_number_of_values(distribution, values, size):
    assert Parameter("params.x", distribution, values).size == size


def test_contains_of_a_trillion_values_is_arithmetic():
    integers = Parameter("params.x", "randint", (1, 10**12))
    assert integers.contains(10**12)
    assert not integers.contains(10**12 + 1)
    assert not integers.contains(2.5)
    steps = Parameter("params.x", "quniform", (0.1, 1e9, 0.01))
    assert steps.contains(123456.78)
    assert not steps.contains(123456.785)
    assert Parameter("params.x", "quniform", (0, 3e-300, 1e-300)).contains(2e-300)


@pytest.mark.parametrize("distribution", ["uniform", "loguniform", "quniform", "randint"])
@pytest.mark.parametrize("sampler", ["RandomSampler", "TPESampler"])
def test_suggest_draws_from_the_largest_ranges_allowed(distribution, sampler):
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    ranges = {
        "uniform": [-1e150, 1e150],
        "loguniform": [1e-150, 1e150],
        "quniform": [0, 1e9, 0.01],
        "randint": [-(2**40), 2**40],
    }
    parameter = parse({distribution: ranges[distribution]})
    study = optuna.create_study(sampler=getattr(optuna.samplers, sampler)(seed=0))
    for _ in range(12):
        trial = study.ask()
        value = parameter.suggest(trial)
        assert parameter.contains(value)
        study.tell(trial, 0.0)


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
        {"quniform": [0, 1, 1e-300]},
        {"quniform": [0, 1, 5e-324]},
        {"quniform": [0, 1, 0]},
        {"quniform": [1e12, 1e12 + 1, 1]},
        {"uniform": [0, 1e300]},
        {"uniform": [0, 10**400]},
        {"randint": [0, 2**60]},
        {"choice": [1, 1.0]},
        {"choice": list(range(1001))},
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
