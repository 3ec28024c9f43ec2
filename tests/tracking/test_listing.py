"""Lists of runs."""

from __future__ import annotations

import pytest

from adjobs.errors import TrackingError
from adjobs.tracking.client import connect
from adjobs.tracking.folder import create_folder_run, folder_uri, run_folder
from adjobs.tracking.layout import RUN_FILE, TAG
from adjobs.tracking.listing import RunFilter, list_runs, main_metric
from adjobs.tracking.runs import open_reader, open_writer
from adjobs.types import JobStatus

NOWHERE = "sqlite:///nowhere/mlflow.db"


def add_run(home, name: str, metrics: dict[str, float], **tags: str):
    ref = create_folder_run(folder_uri(home), name, {"method": "cdo", **tags})
    open_writer(ref).log_metrics(metrics, 1)
    return ref


def names(runs) -> list[str]:
    return [run.info.name for run in runs.runs]


def test_list_runs_without_mlflow_makes_no_database(tmp_path):
    assert list_runs(f"sqlite:///{tmp_path}/mlflow.db", tmp_path, RunFilter(), 5).runs == []
    assert not (tmp_path / "mlflow.db").exists()


def test_list_runs_the_latest_first_up_to_the_limit_and_filtered(tmp_path):
    for index in range(3):
        ref = add_run(tmp_path, f"tiles-{index}", {}, method="cdo" if index else "liac")
        state = (run_folder(ref) / RUN_FILE).read_text()
        (run_folder(ref) / RUN_FILE).write_text(state.replace('"started_at": "20', f'"started_at": "{30 + index}'))
    open_writer(ref).close(JobStatus.FAILED)
    add_run(tmp_path, "trial", {}, kind="trial")
    runs = list_runs(NOWHERE, tmp_path, RunFilter(), 2)
    assert (names(runs), runs.has_more) == (["tiles-2", "tiles-1"], True)
    assert names(list_runs(NOWHERE, tmp_path, RunFilter(method="liac"), 5)) == ["tiles-0"]
    assert names(list_runs(NOWHERE, tmp_path, RunFilter(state="FAILED"), 5)) == ["tiles-2"]
    assert names(list_runs(NOWHERE, tmp_path, RunFilter(children=True), 5)) == ["tiles-2", "tiles-1", "tiles-0", "trial"]
    assert names(list_runs(NOWHERE, tmp_path, RunFilter(experiment="line"), 5)) == []


def test_list_runs_damaged_ones_are_left_out(tmp_path):
    for content in ("{", "{}", '{"name": "x", "status": "DREAMING", "started_at": "2026-01-01", "ended_at": null, "tags": {}}'):
        (run_folder(add_run(tmp_path, "damaged", {})) / RUN_FILE).write_text(content)
    add_run(tmp_path, "tiles", {})
    assert names(list_runs(NOWHERE, tmp_path, RunFilter(), 5)) == ["tiles"]


def test_list_runs_without_an_answer_of_mlflow_has_the_others(tmp_path, monkeypatch):
    def refuse(uri):
        raise TrackingError("MLflow at http://host: no answer")

    monkeypatch.setattr("adjobs.tracking.listing.connect", refuse)
    with pytest.raises(TrackingError, match="no answer"):
        list_runs("http://host", tmp_path, RunFilter(), 5)
    add_run(tmp_path, "tiles", {})
    runs = list_runs("http://host", tmp_path, RunFilter(), 5)
    assert names(runs) == ["tiles"]
    assert "no answer" in str(runs.unreachable)


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        ({}, None),
        ({"train/loss": 0.25}, ("train/loss", 0.25)),
        ({"train/loss": 0.25, "val/image_auroc": 0.5}, ("val/image_auroc", 0.5)),
        ({"val/image_auroc": 0.5, "test/pixel_ap": 0.75, "test/image_auroc": 1.0}, ("test/image_auroc", 1.0)),
        ({"best/image_ap": 0.5}, ("best/image_ap", 0.5)),
    ],
)
def test_main_metric_is_that_by_which_a_run_is_chosen(tmp_path, metrics, expected):
    assert main_metric(open_reader(add_run(tmp_path, "tiles", metrics)).info) == expected


@pytest.mark.slow
def test_list_runs_of_mlflow_and_without_are_one_list(tmp_path, empty_mlflow, monkeypatch):
    monkeypatch.setattr("adjobs.tracking.listing._PAGE_SIZE", 2)
    uri = empty_mlflow(tmp_path)
    client = connect(uri)
    experiments = [client.create_experiment(name, artifact_location=(tmp_path / name).as_uri()) for name in ("line-3", "line-4")]
    for index in range(5):
        tags = {f"{TAG}method": "cdo" if index else "liac"} | ({f"{TAG}kind": "trial"} if index == 4 else {})
        client.create_run(experiments[index % 2], run_name=f"tiles-{index}", tags=tags, start_time=1000 * (index + 1))
    foreign = client.create_run(experiments[0], run_name="of another program", start_time=9000)
    client.log_param(foreign.info.run_id, "data.uri", "x")
    search = client.create_run(experiments[0], run_name="search", tags={f"{TAG}kind": "search"}, start_time=7000)
    client.log_param(search.info.run_id, "data.uri", "s3://line/tiles")
    add_run(tmp_path, "local", {})
    runs = list_runs(uri, tmp_path, RunFilter(), 10)
    assert names(runs) == ["local", "search", "tiles-3", "tiles-2", "tiles-1", "tiles-0"]
    assert runs.runs[1].to_dict()["data"] == "s3://line/tiles"
    assert names(list_runs(uri, tmp_path, RunFilter(experiment="line-4"), 10)) == ["tiles-3", "tiles-1"]
    assert names(list_runs(uri, tmp_path, RunFilter(method="liac"), 10)) == ["tiles-0"]
    assert names(list_runs(uri, tmp_path, RunFilter(state="FINISHED"), 10)) == []
    with pytest.raises(TrackingError, match=r"experiment 'line-5': does not exist; .*did you mean 'line-"):
        list_runs(uri, tmp_path, RunFilter(experiment="line-5"), 10)
