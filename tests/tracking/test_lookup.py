"""Runs by the start of their id or by their name."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from adjobs.errors import TrackingError
from adjobs.tracking.client import connect
from adjobs.tracking.folder import folder_uri, run_folder
from adjobs.tracking.layout import RUN_FILE, TAG, RunRef
from adjobs.tracking.logged_model import pin_model_uri
from adjobs.tracking.lookup import Candidate, choose, find_in_mlflow, mlflow_candidates
from adjobs.tracking.parents import find_parent
from adjobs.tracking.runs import fetch_detector, find_run
from adjobs.types import JobStatus

IDS = ["4f2a91c0" + "0" * 24, "4f2a91c1" + "0" * 24, "beef0000" + "1" * 24]
NOWHERE = "sqlite:///nowhere/mlflow.db"


def add_folder_run(home, run_id: str, name: str) -> RunRef:
    ref = RunRef(folder_uri(home), run_id)
    run_folder(ref).mkdir(parents=True)
    state = (
        f'{{"name": "{name}", "status": "FINISHED", "started_at": "2026-01-01T00:00:00+00:00", "ended_at": null, "tags": {{}}}}'
    )
    (run_folder(ref) / RUN_FILE).write_text(state)
    return ref


@pytest.fixture
def runs(tmp_path) -> list[RunRef]:
    """Three runs without MLflow, two of which have ids that start alike, and two the same name."""
    return [add_folder_run(tmp_path, run_id, name) for run_id, name in zip(IDS, ["tiles-1", "tiles-2", "tiles-2"], strict=True)]


@pytest.mark.parametrize("text", ["beef", "beef0000", "runs:/beef0", "tiles-1", IDS[0], "4f2a91c1"])
def test_find_run_without_mlflow_by_the_start_of_an_id_or_a_name(runs, tmp_path, text):
    expected = {"tiles-1": 0, IDS[0]: 0, "4f2a91c1": 1}.get(text, 2)
    assert find_run(NOWHERE, tmp_path, text) == runs[expected]


def test_find_run_several_are_refused_in_one_line_that_lists_them(runs, tmp_path):
    with pytest.raises(TrackingError) as refused:
        find_run(NOWHERE, tmp_path, "4f2a")
    assert str(refused.value) == (
        "run '4f2a': stands for 4f2a91c0 (tiles-1, FINISHED), 4f2a91c1 (tiles-2, FINISHED); give more digits of the id"
    )
    with pytest.raises(TrackingError, match=r"run 'tiles-2': stands for 4f2a91c1 .*, beef0000 "):
        find_run(NOWHERE, tmp_path, "tiles-2")


@pytest.mark.parametrize("text", ["4f2", "tiles", "abcd", "line@champion", 'it\'s "x"', "x" * 1000, "a\nb"])
def test_find_run_no_match_says_what_lists_them(runs, tmp_path, text):
    with pytest.raises(TrackingError, match=r"not found; give .*'adjobs runs list' shows") as refused:
        find_run(NOWHERE, tmp_path, text)
    assert "\n" not in str(refused.value)
    assert ("at least 4 digits" in str(refused.value)) == (text == "4f2")


def test_find_run_leaves_other_names_of_models_as_they_are(tmp_path):
    for name in ("models:/line/3", "models:/line@champion", "models:/m-4f2a", "/some/detector", ""):
        assert find_run(NOWHERE, tmp_path, name).tracking_uri == NOWHERE


def test_find_run_damaged_runs_are_left_out(runs, tmp_path):
    (run_folder(runs[0]) / RUN_FILE).write_text("{")
    assert find_run(NOWHERE, tmp_path, "4f2a") == runs[1]


def test_fetch_detector_of_a_run_by_its_name(runs, tmp_path):
    with pytest.raises(TrackingError, match=f"run {IDS[0]} .*: has no model"):
        fetch_detector(NOWHERE, tmp_path, "tiles-1", tmp_path)


def test_choose_more_than_five_are_not_all_listed():
    candidates = [Candidate("", f"abcd{number:028x}", "tiles", "FAILED") for number in range(6)]
    with pytest.raises(TrackingError, match="and more; give more digits of the id") as refused:
        choose("abcd", candidates, NOWHERE)
    assert str(refused.value).count("FAILED") == 5
    assert len({word for word in str(refused.value).split() if word.startswith("abcd")}) == 5  # with enough digits


class FakeClient:
    """Keeps the conditions that it was given."""

    def __init__(self) -> None:
        self.conditions: list[str] = []

    def search_experiments(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(experiment_id="1")]

    def search_runs(self, experiments: list[str], condition: str, max_results: int) -> list[SimpleNamespace]:
        self.conditions.append(condition)
        return [SimpleNamespace(info=SimpleNamespace(run_id=IDS[2], run_name="", status="FINISHED"))]


def test_mlflow_candidates_search_by_id_only_for_the_start_of_one():
    client = FakeClient()
    assert mlflow_candidates(client, "http://host", "beef") == [Candidate("http://host", IDS[2], IDS[2], "FINISHED")]
    assert client.conditions == ["attributes.run_id LIKE 'beef%'", "attributes.run_name = 'beef'"]
    client.conditions.clear()
    mlflow_candidates(client, "http://host", "the line's run")
    assert client.conditions == ['attributes.run_name = "the line\'s run"']


@pytest.mark.slow
def test_runs_of_mlflow_are_found_by_the_start_of_an_id_or_a_name(tmp_path, empty_mlflow):
    uri = empty_mlflow(tmp_path)
    client = connect(uri)
    experiment = client.create_experiment("line 3", artifact_location=(tmp_path / "artifacts").as_uri())
    first, second = (client.create_run(experiment, run_name=name).info.run_id for name in ("it's tiles", "tiles-2"))
    client.set_tag(second, f"{TAG}kind", "search")
    client.set_tag(second, f"{TAG}search", "s")
    assert find_run(uri, tmp_path, first[:12]) == find_run(uri, tmp_path, "it's tiles") == RunRef(uri, first)
    assert find_in_mlflow(client, uri, "tiles-2") == second
    assert find_parent(uri, "search", second[:12])[0].run_id == second
    with pytest.raises(TrackingError, match=rf"run {first} \(RUNNING\): has no model"):
        pin_model_uri(uri, first[:12])
    client.set_terminated(first, str(JobStatus.FAILED))
    local = add_folder_run(tmp_path, first[:12] + "0" * 20, "tiles-2")
    with pytest.raises(TrackingError, match=r"stands for .*RUNNING.*; give more digits"):
        find_run(uri, tmp_path, "tiles-2")
    with pytest.raises(TrackingError, match=rf"{local.run_id[:13]} \(tiles-2, FINISHED\), {first[:13]} \(it's tiles, FAILED\)"):
        find_run(uri, tmp_path, first[:12])
