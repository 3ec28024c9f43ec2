"""Search spaces: what they contain, what is refused, and that those of the repository fit their methods."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from adjobs import methods
from adjobs.config.job import JobConfig
from adjobs.config.resolve import resolve
from adjobs.errors import AdjobsError, JobError
from adjobs.tuning.parameter import DISTRIBUTIONS
from adjobs.tuning.space import Space, format_params, parse_space, read_space
from tests.helpers.documents import ODD_NUMBERS, ODD_SCALARS, ODD_VALUES, ODD_YAML, check_message

SPACES = Path(__file__).parents[2] / "tune_spaces"
JOBS = [*((method, {}) for method in methods.names()), *(("semirest", {"supervision": s}) for s in ("masks", "boxes"))]


def make_job(method: str = "cdo", **params: object) -> JobConfig:
    return resolve({"method": method, "data": {"uri": "images"}, "params": params})


def make_space(**parameters: object) -> Space:
    definitions = {key.replace("__", "."): definition for key, definition in parameters.items()}
    return parse_space({"method": "cdo", "parameters": definitions}, "space")


def refusal(**parameters: object) -> str:
    with pytest.raises(JobError) as error:
        make_space(**parameters).check(make_job())
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(("method", "params"), JOBS)
def test_check_bounds_of_the_repositorys_spaces_fit(method, params):
    space = read_space(SPACES / f"{method}.yaml")
    assert space.method == method
    space.check(make_job(method, **params))


@pytest.mark.parametrize(("method", "params"), JOBS)
def test_check_commented_parameters_of_the_repositorys_spaces_fit(method, params):
    text = re.sub(r"^  # (?=\w+\.\w+: )", "  ", (SPACES / f"{method}.yaml").read_text(), flags=re.MULTILINE)
    space = parse_space(yaml.safe_load(text), method)
    assert len(space.parameters) > len(read_space(SPACES / f"{method}.yaml").parameters)
    space.check(make_job(method, **params))


def test_grid_varies_a_parameter_only_where_its_condition_holds():
    space = make_space(
        params__mom={"choice": [True, False]}, params__rectangles={"randint": [1, 2], "when": {"params.mom": True}}
    )
    assert space.grid(make_job()) == [
        {"params.mom": True, "params.rectangles": 1},
        {"params.mom": True, "params.rectangles": 2},
        {"params.mom": False},
    ]


def test_conditions_may_hold_because_of_the_job_alone():
    rectangles = {"randint": [1, 2], "when": {"params.fill": ["gaussian"]}}
    space = make_space(params__rectangles=rectangles)
    assert len(space.grid(make_job(fill="gaussian"))) == 2
    with pytest.raises(JobError, match="nothing varies in this job"):
        space.check(make_job())
    with_gamma = make_space(params__gamma={"uniform": [0, 4]}, params__rectangles=rectangles)
    with_gamma.check(make_job())
    assert with_gamma.params_of(make_job()) == {"params.gamma": make_job().params["gamma"]}


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"params__rectangles": {"randint": [1, 2], "when": {"params.fill": "gausian"}}}, "params.fill: got 'gausian'"),
        ({"params__rectangles": {"randint": [-1, 2], "when": {"params.fill": "gaussian"}}}, "params.rectangles: got -1"),
        (
            {"params__mom": {"choice": [True]}, "params__rectangles": {"randint": [1, 2], "when": {"params.mom": False}}},
            "params.rectangles: its 'when' never holds",
        ),
    ],
)
def test_check_impossible_condition_is_refused_even_if_inactive_in_the_job(parameters, message):
    assert message in refusal(**parameters)


def test_data_variants_include_the_parameters_of_their_conditions():
    space = make_space(
        params__mom={"choice": [True, False]},
        params__gamma={"uniform": [0, 4]},
        data__protocol={"choice": ["holdout", "liac"], "when": {"params.mom": False}},
    )
    assert list(space.data_variants(make_job())) == [
        {"params.mom": True},
        {"params.mom": False, "data.protocol": "holdout"},
        {"params.mom": False, "data.protocol": "liac"},
    ]


def test_check_unknown_keys_and_values_are_refused_all_at_once():
    text = refusal(
        params__gama={"uniform": [0, 4]}, params__lr={"loguniform": [0.001, 2]}, data__image_size={"choice": [64, 100]}
    )
    assert "params.gama: unknown key" in text
    assert "did you mean 'gamma'?" in text
    assert "params.lr: got 2; must be less than or equal to 1" in text
    assert "data.image_size: got 100" in text


def test_parse_space_refuses_definitions_with_their_key():
    assert "params.gamma: uniform: got [1, 0], needs [low, high]" in refusal(params__gamma={"uniform": [1, 0]})
    assert "data.seed: may not vary" in refusal(data__seed={"choice": [1, 2]})


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {"method": "cdo"},
        {"method": "cdo", "parameters": []},
        {"method": "cdo", "parameters": {}},
        {"method": "cod", "parameters": {"params.gamma": {"uniform": [0, 1]}}},
    ],
)
def test_parse_space_other_documents_are_refused(document):
    with pytest.raises(JobError):
        parse_space(document, "space")


def test_to_dict_is_what_was_parsed():
    document = yaml.safe_load((SPACES / "cdo.yaml").read_text())
    space = parse_space(document, "space")
    assert parse_space(space.to_dict(), "space") == space
    assert list(space.to_dict()["parameters"]) == list(document["parameters"])


def test_read_space_unreadable_file_is_refused(tmp_path):
    with pytest.raises(JobError, match="cannot be read"):
        read_space(tmp_path / "none.yaml")
    (tmp_path / "broken.yaml").write_text("{")
    with pytest.raises(JobError, match="not valid YAML"):
        read_space(tmp_path / "broken.yaml")


def test_grid_continuous_parameter_is_refused():
    with pytest.raises(JobError, match=r"params.gamma: a grid needs a finite number of values"):
        make_space(params__gamma={"uniform": [0, 1]}).grid(make_job())


def test_grid_of_a_trillion_points_is_refused_by_arithmetic():
    space = make_space(params__batch_size={"randint": [1, 10**12]})
    with pytest.raises(JobError, match=r"params.batch_size: more than 100000 combinations; use fewer values"):
        space.grid(make_job())
    many = {f"params__{name}": {"randint": [1, 100]} for name in ("batch_size", "epochs", "rectangles")}
    with pytest.raises(JobError, match=r"params.rectangles: more than 100000 combinations"):
        make_space(**many).grid(make_job())


def test_data_variants_of_a_trillion_are_refused_by_arithmetic():
    space = make_space(data__max_train_anomalies={"randint": [0, 10**12]})
    with pytest.raises(JobError, match=r"data.max_train_anomalies: more than 1000 combinations"):
        list(space.data_variants(make_job()))


def test_check_conditions_on_all_earlier_keys_take_linear_time():
    names = [name for name in make_job().params if isinstance(make_job().params[name], int) and name != "mom"]
    definitions: dict[str, object] = {}
    for name in names:
        when = {key: [make_job().params[key.partition(".")[2]]] for key in definitions}
        definitions[f"params.{name}"] = {"choice": [make_job().params[name]], "when": when}
    parse_space({"method": "cdo", "parameters": definitions}, "space").check(make_job())


quick = settings(deadline=None, max_examples=60, derandomize=True)
KEYS = [f"params.{name}" for name in make_job().params] + [
    "data.image_size",
    "data.protocol",
    "train.precision",
    "data.seed",
    "x",
]


@quick
@given(
    parameters=st.dictionaries(
        st.sampled_from(KEYS),
        ODD_VALUES
        | st.dictionaries(st.sampled_from([*DISTRIBUTIONS, "when"]), st.lists(ODD_SCALARS, max_size=4) | ODD_VALUES, max_size=2)
        | st.fixed_dictionaries(
            {"choice": st.lists(ODD_SCALARS, min_size=1, max_size=3)},
            optional={"when": st.dictionaries(st.sampled_from(KEYS), ODD_VALUES, max_size=2)},
        )
        | st.tuples(st.sampled_from(["uniform", "quniform", "randint"]), st.lists(ODD_NUMBERS, min_size=2, max_size=3)).map(
            lambda pair: {pair[0]: sorted(pair[1])}
        ),
        max_size=3,
    )
)
def test_parse_space_of_anything_is_a_space_or_one_line(parameters):
    try:
        space = parse_space({"method": "cdo", "parameters": parameters}, "space 'space.yaml'")
        space.check(make_job())
        space.params_of(make_job())
        assert parse_space(space.to_dict(), space.source) == space
        space.grid(make_job())
    except AdjobsError as error:
        check_message(error)


@quick
@given(text=ODD_YAML, place=st.sampled_from(["method: {}", "parameters: {}", "parameters:\n  params.gamma: {}", "{}"]))
def test_read_space_of_odd_text_is_a_space_or_one_line(tmp_path_factory, text, place):
    path = tmp_path_factory.getbasetemp() / "odd.yaml"
    path.write_bytes(f"method: cdo\n{place.replace('{}', text)}\n".encode("utf-8", "surrogatepass"))
    try:
        read_space(path)
    except AdjobsError as error:
        check_message(error)


def test_params_of_job_outside_the_space_is_none():
    space = make_space(params__gamma={"uniform": [0, 4]}, params__fill={"choice": ["uniform", "gaussian"]})
    assert space.params_of(make_job()) == {"params.gamma": 2.0, "params.fill": "uniform"}
    assert space.params_of(make_job(gamma=5.0)) is None


def test_apply_values_that_do_not_fit_together_are_refused():
    space = make_space(params__first_level={"choice": [1, 3]}, params__last_level={"choice": [2, 3]})
    assert space.apply({"params.first_level": 3}, make_job()).params["first_level"] == 3
    with pytest.raises(JobError, match="first_level: got 3; must not exceed last_level 2"):
        space.apply({"params.first_level": 3, "params.last_level": 2}, make_job())


def test_format_params_is_short():
    params = {"params.lr": 0.00021338, "params.mom": True, "params.floor": None}
    assert format_params(params) == "lr 0.000213, mom True, floor None"
    assert format_params({}) == "the job as it is"
