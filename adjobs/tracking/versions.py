"""Descriptions of registered models and of their versions."""

from __future__ import annotations

from collections.abc import Callable

from adjobs.tracking.client import connect, mlflow_errors
from adjobs.tracking.layout import RunRef


def describe_registered(run: RunRef, name: str, of_model: str, of_version: Callable[[str], str]) -> None:
    """Describe a registered model and the version that a run has added last, where nobody has described them yet.

    Args:
        run: the run.
        name: of the registered model.
        of_model: description of the model, Markdown.
        of_version: gives that of a version for its ``models:/`` URI.

    Raises:
        TrackingError: MLflow does not answer, or refuses.
    """
    client = connect(run.tracking_uri)
    with mlflow_errors(run.tracking_uri):
        versions = [item for item in client.search_model_versions(f"run_id = '{run.run_id}'") if item.name == name]
        if not client.get_registered_model(name).description:
            client.update_registered_model(name, of_model)
        newest = max(versions, key=lambda item: int(item.version), default=None)
        if newest is not None and not newest.description:
            client.update_model_version(name, newest.version, of_version(f"models:/{name}/{newest.version}"))
