"""From a model to its run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adjobs.data.open import open_dataset
from adjobs.drift.reference import open_model
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
