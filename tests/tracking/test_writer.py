"""Writing into a run of MLflow."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from mlflow.exceptions import MlflowException

from adjobs.config.resolve import resolve
from adjobs.data.splits.assignment import SplitAssignment
from adjobs.errors import TrackingError
from adjobs.tracking.layout import DatasetInfo, RunRef
from adjobs.tracking.writer import MlflowRunWriter

JOB = resolve({"method": "cdo", "data": {"uri": "images"}})
INFO = DatasetInfo("0" * 64, "folder", {"train/normal": 1}, SplitAssignment("holdout", 0, ("a",), ("b",), ("c",)))


class FakeClient:
    """Refuses the data set a number of times."""

    def __init__(self, *refusals: str) -> None:
        self.refusals = list(refusals)
        self.inputs: list[Any] = []
        self.files: list[str] = []

    def get_run(self, run_id: str) -> Any:
        return SimpleNamespace(data=SimpleNamespace(tags={}))

    def log_batch(self, run_id: str, **entries: Any) -> None:
        pass

    def log_inputs(self, run_id: str, inputs: list[Any]) -> None:
        if self.refusals:
            raise MlflowException(self.refusals.pop(0))
        self.inputs += inputs

    def log_text(self, run_id: str, text: str, name: str) -> None:
        self.files.append(name)


def writer_of(client: FakeClient, monkeypatch: pytest.MonkeyPatch) -> MlflowRunWriter:
    monkeypatch.setattr("adjobs.tracking.writer.connect", lambda uri: client)
    return MlflowRunWriter(RunRef("http://host", "abc"))


@pytest.mark.parametrize(
    "refusals",
    [
        (),
        ("(sqlite3.IntegrityError) UNIQUE constraint failed: datasets.experiment_id, datasets.name, datasets.digest",),
        ('(psycopg2.errors.UniqueViolation) duplicate key value violates unique constraint "dataset_pk"',),
    ],
)
def test_record_job_beside_another_job_of_the_same_data(refusals, monkeypatch):
    client = FakeClient(*refusals)
    writer_of(client, monkeypatch).record_job(JOB, INFO)
    assert [entry.dataset.digest for entry in client.inputs] == ["0" * 36]
    assert client.files == ["job.yaml", "split.json", "preflight.json"]


def test_record_job_that_mlflow_refuses_is_one_line(monkeypatch):
    with pytest.raises(TrackingError, match="MLflow at http://host: Run with id=abc not found"):
        writer_of(FakeClient("Run with id=abc not found"), monkeypatch).record_job(JOB, INFO)


def test_set_description_is_cut_where_mlflow_would_refuse_it(monkeypatch):
    client, tags = FakeClient(), {}
    client.set_tag = lambda run_id, key, value: tags.update({key: value})
    writer_of(client, monkeypatch).set_description("x" * 9000)
    assert tags == {"mlflow.note.content": "x" * 8000}
