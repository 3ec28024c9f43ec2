"""Experiments of MLflow, set up for choosing: they open as model training, with a view of the columns that matter."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from adjobs.errors import TrackingError
from adjobs.tracking.client import SQLITE, mlflow_errors, sqlite_folder
from adjobs.tracking.layout import TEST_COLUMNS, UI_QUERY

KIND_TAG, KIND = "mlflow.experimentKind", "custom_model_development"  # as the UI sets it for "Machine learning"
VIEW = "adjobs"  # what the link to the view names it by
VIEW_TAG, NOTE_TAG = f"mlflow.sharedViewState.{VIEW}", "mlflow.note.content"


def experiment_id(client: Any, uri: str, name: str) -> str:
    """Find or create an experiment; safe when several jobs create it at once.

    With a SQLite file the artifacts go beside it; MLflow's default would be the current folder.
    """
    from mlflow.exceptions import MlflowException

    with mlflow_errors(uri):
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            location = (sqlite_folder(uri) / "artifacts").as_uri() if uri.startswith(SQLITE) else None
            try:
                client.create_experiment(name, artifact_location=location)
            except MlflowException:
                if client.get_experiment_by_name(name) is None:  # no other process was first
                    raise
            experiment = client.get_experiment_by_name(name)
        if experiment.lifecycle_stage != "active":
            raise TrackingError(f"MLflow experiment '{name}' is deleted; restore it, or use another track.experiment")
        if KIND_TAG not in experiment.tags:
            with suppress(MlflowException):  # of a user who may not: it only decides what the UI shows
                _set_up(client, experiment)
        return str(experiment.experiment_id)


def _set_up(client: Any, experiment: Any) -> None:
    """Set the tags of an experiment, that by which it counts as set up last."""
    tags = {VIEW_TAG: json.dumps(_view()), KIND_TAG: KIND}
    if NOTE_TAG not in experiment.tags:
        link = f"#/experiments/{experiment.experiment_id}/runs{UI_QUERY}&viewStateShareKey={VIEW}"
        tags = {NOTE_TAG: f"[Compare the runs by what their models can do]({link})", **tags}
    for key, value in tags.items():
        client.set_experiment_tag(experiment.experiment_id, key, value)


def _view() -> dict[str, Any]:
    """The state of MLflow's table of runs: the columns by which people choose, the best run first."""
    metrics = [*(f"test/{name}" for name in TEST_COLUMNS), "test/ms_per_image", "threshold"]
    columns = ["attributes.`Models`", "params.`method`", *(f"metrics.`{name}`" for name in metrics)]
    return {"selectedColumns": columns, "orderByKey": f"metrics.`test/{TEST_COLUMNS[0]}`", "orderByAsc": False}
