from __future__ import annotations

from typing import Any

import pytest

from adjobs import methods
from adjobs.comparison.config import parse_comparison
from adjobs.errors import JobError

DATA = {"uri": "images"}


def parse(compare: Any = None, **sections: Any) -> Any:
    return parse_comparison({"data": DATA, "compare": compare, **sections})


def test_parse_comparison_without_methods_takes_all():
    config = parse()
    assert [candidate.label for candidate in config.candidates] == methods.names()
    assert config.compare.budget_s == 1800


def test_parse_comparison_gives_each_candidate_its_job():
    section = {"methods": ["cdo", {"method": "cdo", "name": "cdo-5", "params": {"epochs": 5}}]}
    config = parse(section, train={"seed": 3}, threshold={"policy": "max_f1"})
    first, second = map(config.job, config.candidates)
    assert (first.params["epochs"] != 5, second.params["epochs"]) == (True, 5)
    assert {job.train.seed for job in (first, second)} == {3}
    assert {job.threshold.policy for job in (first, second)} == {"max_f1"}
    assert parse_comparison(config.model_dump(mode="json")) == config


def test_parse_comparison_one_method_with_several_seeds():
    config = parse({"methods": ["cdo", {"method": "cdo", "name": "cdo-seed-1", "seed": 1}]}, train={"seed": 3})
    assert [config.job(candidate).train.seed for candidate in config.candidates] == [3, 1]


@pytest.mark.parametrize(
    ("compare", "sections", "message"),
    [
        ({"methods": []}, {}, "compare.methods: got []; must be a list of 1 to 50 methods"),
        ({"methods": "cdo"}, {}, "compare.methods: got 'cdo'; must be a list"),
        ({"methods": [3]}, {}, "must have names of methods, or mappings"),
        ({"methods": ["cdo", "cdo"]}, {}, "got two methods with the name cdo; give one of them another name"),
        ({"methods": ["cd", {"method": "cdo", "params": {"x": 1}, "name": "a"}]}, {}, "unknown method 'cd'"),
        ({"methods": [{"method": "cdo", "name": "a b"}]}, {}, "must be up to 64 letters"),
        ({"methods": [{"method": "cdo", "seed": -1}]}, {}, "compare.methods.seed: got -1; must be greater than or equal to 0"),
        ({"budget": "5x"}, {}, "compare.budget: got '5x'; give a positive number with a unit, such as 90s"),
        ({"metric": "beauty"}, {}, "compare.metric: got 'beauty'; must be one of image_auroc"),
        ({"speed": 1}, {}, "compare.speed: unknown key"),
        (4, {}, "compare: got 4; must be a section"),
        (None, {"method": "cdo"}, "method: a comparison has none of its own; move it into compare.methods"),
        (None, {"track": "none"}, "track: got none, a comparison is recorded in MLflow; remove the key"),
        (None, {"train": {"max_seconds": 9}}, "train.max_seconds: every method gets an equal share of compare.budget"),
        (None, {"data": {}}, "data.uri: missing"),
    ],
)
def test_parse_comparison_what_cannot_be_is_refused_in_one_line(compare, sections, message):
    with pytest.raises(JobError) as error:
        parse(compare, **sections)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
