"""Which run a model came from, and where its detector is."""

from __future__ import annotations

import pytest

from adjobs.errors import StorageError, TrackingError
from adjobs.inference.manifest import write_manifest
from adjobs.tracking.folder import create_folder_run, folder_uri
from adjobs.tracking.layout import RunRef
from adjobs.tracking.runs import detector_folder, open_writer, source_run
from tests.helpers.detectors import make_manifest
from tests.helpers.registry import add_evaluated_version, draw_scores, store

__all__ = ["store"]


@pytest.mark.slow
def test_source_run_of_a_version_an_alias_and_a_logged_model(store, tmp_path):
    version = add_evaluated_version(store, "line-3", tmp_path, draw_scores(1.0))
    store.set_alias("line-3", "champion", version)
    run = store._client.get_model_version("line-3", str(version)).run_id
    for model in (f"models:/line-3/{version}", "models:/line-3@champion", run, f"runs:/{run}"):
        assert source_run(store.uri, tmp_path, model) == RunRef(store.uri, run)
    logged = store._client.create_logged_model(store._client.get_run(run).info.experiment_id, source_run_id=run)
    assert source_run(store.uri, tmp_path, f"models:/{logged.model_id}") == RunRef(store.uri, run)
    assert source_run(store.uri, tmp_path, "models:/line-3/1") is None  # registered from elsewhere
    with pytest.raises(TrackingError, match="not found"):
        source_run(store.uri, tmp_path, "models:/line-3/99")


def test_source_run_of_a_run_without_mlflow_and_of_a_folder(tmp_path):
    run = create_folder_run(folder_uri(tmp_path), "cdo-line", {"method": "cdo"})
    assert source_run("sqlite:///nowhere", tmp_path, run.run_id) == run
    (tmp_path / "detector").mkdir()
    write_manifest(tmp_path / "detector", make_manifest())
    assert source_run("sqlite:///nowhere", tmp_path, str(tmp_path / "detector")) is None


def test_detector_folder_of_a_run_without_mlflow_and_of_a_folder(tmp_path):
    run = create_folder_run(folder_uri(tmp_path), "cdo-line", {"method": "cdo"})
    with pytest.raises(TrackingError, match="has no model"), detector_folder("sqlite:///x", tmp_path, run.run_id):
        pass
    (tmp_path / "trained").mkdir()
    write_manifest(tmp_path / "trained", make_manifest())
    open_writer(run).set_tags({"model": str(tmp_path / "trained")})
    for model in (run.run_id, tmp_path / "trained"):
        with detector_folder("sqlite:///x", tmp_path, model) as folder:
            assert folder == tmp_path / "trained"


@pytest.mark.parametrize("model", ["", "some/folder", "."])
def test_detector_folder_path_without_a_detector_is_refused(model, tmp_path):
    with pytest.raises(StorageError, match="is no folder of a detector"), detector_folder("sqlite:///x", tmp_path, model):
        pass
