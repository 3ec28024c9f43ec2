"""From a model to its run."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

from adjobs.data.open import open_dataset
from adjobs.drift.reference import Reference, open_model, read_reference
from adjobs.errors import JobError, TrackingError
from adjobs.registry.models import ModelStore
from tests.helpers.drift import log_run
from tests.helpers.jobs import local_settings, resolved_job


@pytest.mark.slow
def test_open_model_of_mlflow_finds_the_run(world, tmp_path, empty_mlflow):
    uri = empty_mlflow(tmp_path / "home")
    job = resolved_job(world.data)
    run = log_run(uri, job, open_dataset(str(world.data), cache=tmp_path), tmp_path)
    settings = replace(local_settings(tmp_path), tracking_uri=uri)
    models = ModelStore(uri)
    logged = models._client.get_run(run.run_id).outputs.model_outputs[0].model_id
    models._client.create_registered_model("line-3")
    models._client.create_model_version("line-3", f"models:/{logged}", run.run_id, model_id=logged)
    models.set_alias("line-3", "champion", 1)
    for model in (run.run_id, f"models:/{logged}", "models:/line-3/1", "models:/line-3@champion"):
        with open_model(model, settings, "cpu") as opened:
            assert opened.run.ref == run
            assert opened.detector.threshold == 1e6
    models._client.create_model_version("line-3", str(tmp_path))
    with pytest.raises(TrackingError, match="no run is recorded with it"), open_model("models:/line-3/2", settings, "cpu"):
        pass


def test_open_model_without_a_name_is_refused(tmp_path):
    with pytest.raises(JobError, match="give a run id or a models:/ URI"), open_model(" ", local_settings(tmp_path), "cpu"):
        pass


@pytest.mark.slow
def test_open_model_of_a_detector_folder_finds_its_run(world, tmp_path):
    folder = world.settings.home / "runs" / world.run_id / "detector"
    with open_model(str(folder), world.settings, "cpu") as opened:
        assert opened.run.ref.run_id == world.run_id
    shutil.copytree(folder, tmp_path / "detector")
    with (
        pytest.raises(TrackingError, match="no run is recorded with a copied detector; give the id of its run"),
        open_model(str(tmp_path / "detector"), world.settings, "cpu"),
    ):
        pass


@pytest.mark.slow
def test_read_reference_of_both_splits_has_normal_images_alone(world):
    with open_model(world.run_id, world.settings, "cpu") as opened:
        generator = np.random.default_rng(0)
        both = read_reference(opened.run, ("val", "test"), 1000, generator, world.settings)
        assert len(both.ids) == len(both.scores) == len(both.files) == 80
        assert all(file.path.parent.name == "good" for file in both.files)
        few = read_reference(opened.run, ("val", "test"), 30, generator, world.settings)
        assert len(few.ids) == 30
        scores = dict(zip(both.ids, both.scores, strict=True))
        assert [scores[name] for name in few.ids] == few.scores.tolist()


def test_has_same_scores_allows_what_devices_differ_by():
    scores = np.random.default_rng(0).normal(size=200)
    reference = Reference(("",) * 200, scores, None)
    assert reference.has_same_scores(scores + 0.01)
    assert not reference.has_same_scores(scores[::-1])
