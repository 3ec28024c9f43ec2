"""A run's model is logged and registered once, however often its process is killed on the way."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow.entities import LoggedModelStatus

from adjobs.inference.detector_folder import save
from adjobs.registry.models import ModelStore
from adjobs.tracking.client import connect
from adjobs.tracking.experiments import experiment_id
from adjobs.tracking.layout import RunRef
from adjobs.tracking.logged_model import log_model_once, source_run_id
from tests.helpers.detectors import Brightness, make_manifest


@pytest.fixture
def run(tmp_path: Path, empty_mlflow) -> RunRef:
    uri = empty_mlflow(tmp_path)
    client = connect(uri)
    return RunRef(uri, client.create_run(experiment_id(client, uri, "line")).info.run_id)


@pytest.fixture
def detector(tmp_path: Path) -> Path:
    folder = tmp_path / "detector"
    save(folder, Brightness(), make_manifest())
    return folder


def test_log_model_once_gives_the_same_model_again_and_registers_it_once(run, detector):
    first = log_model_once(run, detector, None)
    again = [log_model_once(run, detector, "line-3") for _ in range(2)]
    assert again == [first] * 2
    store = ModelStore(run.tracking_uri)
    assert [version.run_id for version in store.versions(store.model("line-3"))] == [run.run_id]
    assert source_run_id(run.tracking_uri, first) == source_run_id(run.tracking_uri, "models:/line-3/1") == run.run_id


def test_log_model_once_removes_a_model_whose_upload_was_cut_off(run, detector):
    client = connect(run.tracking_uri)
    experiment = client.get_run(run.run_id).info.experiment_id
    pending = client.create_logged_model(experiment, name="model", source_run_id=run.run_id)
    from mlflow.entities import LoggedModelOutput

    client.log_outputs(run.run_id, [LoggedModelOutput(pending.model_id, 0)])
    uris = [log_model_once(run, detector, None) for _ in range(2)]
    models = client.search_logged_models([experiment])
    assert [f"models:/{model.model_id}" for model in models] == uris[:1]
    assert uris[0] == uris[1]
    assert models[0].status == LoggedModelStatus.READY


def test_register_gives_the_version_of_a_run_again(run, detector):
    source = log_model_once(run, detector, None)
    store = ModelStore(run.tracking_uri)
    versions = [store.register("line-4", run.run_id, source, {"request": "pass-1"}) for _ in range(2)]
    assert [version.version for version in versions] == [1, 1]
    assert versions[0].tags["adjobs.request"] == "pass-1"
