"""What a reader says of a run, and of what it cannot read."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from mlflow.exceptions import MlflowException

from adjobs.errors import TrackingError
from adjobs.tracking.folder import create_folder_run, folder_uri, run_folder
from adjobs.tracking.layout import RunRef
from adjobs.tracking.reader import MlflowRunReader, run_info
from adjobs.tracking.runs import open_reader


def stored(**info: object) -> SimpleNamespace:
    """A run as MLflow's client gives it."""
    defaults = {"experiment_id": "7", "run_id": "abc", "run_name": "x", "status": "FINISHED", "start_time": 0, "end_time": None}
    return SimpleNamespace(info=SimpleNamespace(**defaults | info), data=SimpleNamespace(tags={}, metrics={}), inputs=None)


class FakeClient:
    """A run with one artifact, of a server that may go away."""

    is_down = False

    def get_run(self, run_id: str) -> SimpleNamespace:
        return stored()

    def get_experiment(self, experiment_id: str) -> SimpleNamespace:
        return SimpleNamespace(name="line 3")

    def list_artifacts(self, run_id: str, folder: str) -> list[SimpleNamespace]:
        self._answer()
        return [SimpleNamespace(path="metrics.json")] if not folder else []

    def download_artifacts(self, run_id: str, name: str, folder: str) -> str:
        self._answer()
        raise MlflowException(f"cannot download {name}")

    def _answer(self) -> None:
        if self.is_down:
            raise MlflowException("Max retries exceeded with url: /api")


@pytest.fixture
def client(monkeypatch) -> FakeClient:
    fake = FakeClient()
    monkeypatch.setattr("adjobs.tracking.reader.connect", lambda _: fake)
    return fake


@pytest.mark.parametrize(
    ("uri", "url"),
    [
        ("https://mia:secret@host:5000/", "https://host:5000/#/experiments/7/runs/abc?workflowType=machine_learning"),
        ("http://host", "http://host/#/experiments/7/runs/abc?workflowType=machine_learning"),
        ("sqlite:///mlflow.db", None),
    ],
)
def test_url_has_no_password(client, uri, url):
    assert MlflowRunReader(RunRef(uri, "abc")).url() == url


def test_run_info_of_a_resumed_run_has_no_end():
    assert run_info(stored(status="RUNNING", end_time=5), "line 3").ended_at is None
    assert run_info(stored(status="KILLED", end_time=5), "line 3").ended_at is not None


@pytest.mark.parametrize(
    ("name", "is_down", "message"),
    [
        ("metrics.json", True, "MLflow at http://host: no answer; start it"),
        ("metrics.json", False, "MLflow at http://host: cannot download metrics.json"),
        ("scores/val.json", False, "run abc: has no scores/val.json; train it again with this version"),
    ],
)
def test_read_json_separates_a_missing_artifact_from_a_server_that_is_down(client, name, is_down, message):
    reader = MlflowRunReader(RunRef("http://host", "abc"))
    client.is_down = is_down
    with pytest.raises(TrackingError) as raised:
        reader.read_json(name)
    assert str(raised.value).startswith(message)


TABLE = '{"columns": ["image", "label", "defect", "score"], "data": [["a.png", LABEL, "", SCORE]]}'


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[1]",
        "1",
        '{"columns": ["image"], "data": [[1, 2]]}',
        '{"columns": [], "data": []}',
        *(TABLE.replace("LABEL", "0").replace("SCORE", score) for score in ("null", "NaN", "-Infinity", '"x"', "[1]")),
        *(TABLE.replace("SCORE", "0.5").replace("LABEL", label) for label in ("null", "2", '"x"')),
    ],
)
def test_scores_of_a_damaged_table_is_one_line(tmp_path, content):
    run = create_folder_run(folder_uri(tmp_path), "cdo-line", {})
    (run_folder(run) / "scores").mkdir()
    (run_folder(run) / "scores" / "val.json").write_text(content)
    with pytest.raises(TrackingError, match=rf"run {run.run_id}: scores/val.json is damaged; train it again"):
        open_reader(run).scores("val")
