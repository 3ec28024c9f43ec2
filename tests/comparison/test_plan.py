from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adjobs.comparison.config import parse_comparison
from adjobs.comparison.plan import ComparisonPlan, make_plan, with_absolute_paths
from adjobs.errors import DataError, JobError
from tests.helpers.drawing import draw_folder
from tests.helpers.jobs import local_settings


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("compared")
    draw_folder(root / "data", 24, 24, size=32)
    return root


def plan(root: Path, compare: dict[str, Any] | None = None, **data: Any) -> ComparisonPlan:
    section = {"methods": ["cdo", "liac"], "budget": "80s", **(compare or {})}
    config = parse_comparison({"data": {"uri": str(root / "data"), "image_size": 32, **data}, "compare": section})
    return make_plan(config, local_settings(root))


def test_make_plan_keeps_a_quarter_for_learning_curves_and_shares_the_rest(root):
    made = plan(root)
    assert [candidate.name for candidate in made.candidates] == ["cdo", "liac"]
    assert (made.curve_seconds, made.seconds_each) == (20, 30)
    assert {candidate.job.train.max_seconds for candidate in made.candidates} == {30}
    assert plan(root, {"learning_curve": False}).seconds_each == 40
    assert plan(root, {"methods": ["cdo"]}).seconds_each == 80


def test_make_plan_method_that_the_labels_do_not_allow_is_left_out_with_the_reason(root):
    made = plan(root, max_train_anomalies=0)
    assert [candidate.name for candidate in made.candidates] == ["cdo"]
    (excluded,) = made.excluded
    assert excluded.name == "liac"
    assert "learns from labelled anomalies" in excluded.reason
    assert (made.curve_seconds, made.seconds_each) == (0, 80)


def test_make_plan_pixel_metric_needs_anomaly_maps(root):
    (excluded,) = plan(root, {"metric": "pixel_ap"}).excluded
    assert excluded.reason == "pixel_ap: liac has no anomaly maps without params.heat_map: true"


def test_make_plan_no_method_is_left_says_why(root):
    with pytest.raises(DataError, match="method liac learns from labelled anomalies"):
        plan(root, {"methods": ["liac"]}, max_train_anomalies=0)
    labelled = {"method": "semirest", "params": {"supervision": "masks"}}
    with pytest.raises(JobError, match="none of 2 methods can be compared on these data, the first: method liac"):
        plan(root, {"methods": ["liac", labelled]}, max_train_anomalies=0)


def test_make_plan_missing_data_is_one_error(root, tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        plan(root, uri=str(tmp_path / "nowhere"))


def test_curve_of_points_are_nested_and_validate_on_the_same_images(root):
    made = plan(root)
    cdo, liac = made.candidates
    assert made.curve_of(cdo) == []
    splits = [liac.prepared.data.split, *(point.prepared.data.split for point in made.curve_of(liac))]
    anomalies = [{name for name in split.train if "bad" in name} for split in splits]
    n = len(anomalies[0])
    assert [len(names) for names in anomalies] == [n, round(n / 2), round(n / 4)]
    assert anomalies[2] < anomalies[1] < anomalies[0]
    assert len({(split.val, split.test) for split in splits}) == 1
    assert len({tuple(name for name in split.train if "bad" not in name) for split in splits}) == 1
    assert [point.key for point in made.curve_of(liac)] == [f"liac@{round(n / 2)}", f"liac@{round(n / 4)}"]


def test_with_absolute_paths_keeps_what_the_user_set_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.pt").touch()
    section = {"methods": ["cdo", {"method": "cdo", "name": "own", "params": {"weights": "weights.pt"}}]}
    config = with_absolute_paths(parse_comparison({"data": {"uri": "images"}, "compare": section}))
    assert config.data.uri == str(tmp_path / "images")
    plain, own = config.candidates
    assert (plain.params, own.params) == ({}, {"weights": str(tmp_path / "weights.pt")})
