"""The connection to MLflow: a server, or a SQLite file that is migrated once."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from adjobs.errors import TrackingError, one_line

SQLITE = "sqlite:///"


@contextmanager
def mlflow_errors(uri: str) -> Iterator[None]:
    """Turn MLflow's errors into ours.

    Raises:
        TrackingError: MLflow is down, refuses, or does not know what was requested.
    """
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException

    try:
        yield
    except (MlflowException, RequestException) as error:
        text = one_line(error)
        if "Max retries exceeded" in text or "Connection" in text:
            raise TrackingError(
                f"MLflow at {uri}: no answer; start it ('adjobs up' starts one here), or set MLFLOW_TRACKING_URI"
            ) from error
        raise TrackingError(f"MLflow at {uri}: {text}") from error


def connect(uri: str) -> Any:
    """A client for a tracking URI, checked to answer.

    Raises:
        TrackingError: MLflow does not answer.
    """
    import mlflow

    # Alembic and MLflow log every migration and every artifact.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="mlflow")
    mlflow.set_tracking_uri(uri)
    with mlflow_errors(uri):
        client = mlflow.MlflowClient(tracking_uri=uri)
        if not uri.startswith(SQLITE):
            client.search_experiments(max_results=1)
            return client
        folder = sqlite_folder(uri)
        folder.mkdir(parents=True, exist_ok=True)
        # Several processes that open a new file at once would corrupt its migration.
        with FileLock(folder / "migrate.lock"):
            client.search_experiments(max_results=1)
        return client


def sqlite_folder(uri: str) -> Path:
    """The folder that a SQLite tracking file and its artifacts lie in."""
    return Path(uri.removeprefix(SQLITE)).parent


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
                return str(client.create_experiment(name, artifact_location=location))
            except MlflowException:
                experiment = client.get_experiment_by_name(name)  # another process was first
                if experiment is None:
                    raise
        if experiment.lifecycle_stage != "active":
            raise TrackingError(f"MLflow experiment '{name}' is deleted; restore it, or use another track.experiment")
        return str(experiment.experiment_id)
