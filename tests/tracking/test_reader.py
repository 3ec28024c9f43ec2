"""What a reader says of a run of MLflow."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from adjobs.tracking.layout import RunRef
from adjobs.tracking.reader import MlflowRunReader


@pytest.mark.parametrize(
    ("uri", "url"),
    [
        ("https://mia:secret@host:5000/", "https://host:5000/#/experiments/7/runs/abc"),
        ("http://host", "http://host/#/experiments/7/runs/abc"),
        ("sqlite:///mlflow.db", None),
    ],
)
def test_url_has_no_password(monkeypatch, uri, url):
    info = SimpleNamespace(experiment_id="7", run_id="abc", run_name="x", status="FINISHED", start_time=0, end_time=None)
    run = SimpleNamespace(info=info, data=SimpleNamespace(tags={}, metrics={}), inputs=None)
    client = SimpleNamespace(get_run=lambda _: run, get_experiment=lambda _: SimpleNamespace(name="line 3"))
    monkeypatch.setattr("adjobs.tracking.reader.connect", lambda _: client)
    assert MlflowRunReader(RunRef(uri, "abc")).url() == url
