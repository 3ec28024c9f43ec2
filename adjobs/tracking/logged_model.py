"""The MLflow model of a run: a pyfunc from code, with the detector's folder as its artifact and no pickle anywhere."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import adjobs
from adjobs.errors import TrackingError
from adjobs.tracking.client import connect, mlflow_errors

# What the model needs besides the code that travels with it.
REQUIREMENTS = (
    "filelock",
    "mlflow",
    "numpy",
    "pillow",
    "pydantic",
    "pyyaml",
    "safetensors",
    "scikit-learn",
    "scipy",
    "timm",
    "torch",
    "tqdm",
)
ARTIFACT = "detector"


def log_model(uri: str, run_id: str, detector: Path, registered: str | None) -> str:
    """Log a detector folder as the run's model; returns its ``models:/`` URI.

    Args:
        uri: tracking URI.
        run_id: the open run.
        detector: folder written by :func:`adjobs.inference.detector.save`.
        registered: registered model that gets a new version, or None.

    Raises:
        TrackingError: MLflow is down or refuses.
    """
    import mlflow
    from mlflow.models import Model

    client = connect(uri)
    with mlflow_errors(uri):
        # The run alone does not tell MLflow where the model belongs: without this it goes to experiment 0, and to ./mlruns.
        mlflow.set_experiment(experiment_id=client.get_run(run_id).info.experiment_id)
        info = Model.log(
            artifact_path=None,
            name="model",
            flavor=mlflow.pyfunc,
            run_id=run_id,
            registered_model_name=registered,
            python_model=str(Path(__file__).with_name("pyfunc_model.py")),
            artifacts={ARTIFACT: str(detector)},
            code_paths=[str(Path(adjobs.__file__).parent)],
            signature=_signature(),
            pip_requirements=[f"{name}=={version(name)}" for name in REQUIREMENTS],
        )
    return str(info.model_uri)


def _signature() -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Array

    outputs = [
        ColSpec(DataType.double, "score"),
        ColSpec(DataType.boolean, "decision"),
        ColSpec(DataType.double, "threshold"),
        ColSpec(Array(Array(DataType.float)), "heat_map", required=False),
        ColSpec(DataType.double, "pixel_threshold", required=False),
    ]
    return ModelSignature(inputs=Schema([ColSpec(DataType.binary, "image")]), outputs=Schema(outputs))


def download(uri: str, model: str, folder: Path) -> Path:
    """Fetch the detector folder of a model.

    Args:
        uri: tracking URI.
        model: a run id, ``runs:/…``, ``models:/name/version``, ``models:/name@alias`` or ``models:/m-…``, or a local folder that
            holds a detector.
        folder: where to put it.

    Raises:
        TrackingError: there is no such run or model, or the run has no model.
    """
    import mlflow

    local = Path(model)
    if (local / "detector.json").is_file():
        return local
    client = connect(uri)
    with mlflow_errors(uri):
        found = Path(mlflow.artifacts.download_artifacts(_model_uri(client, model), dst_path=str(folder)))
    inside = found / "artifacts" / ARTIFACT
    if not (inside / "detector.json").is_file():
        raise TrackingError(f"model '{model}': not one that adjobs logged; give a run of 'adjobs train' or a models:/ URI")
    return inside


def pin_model_uri(uri: str, model: str) -> str:
    """What a run or an alias stands for now: a logged model or a version, neither of which changes; others stay as they are.

    Raises:
        TrackingError: there is no such run or model, or the run has no model.
    """
    if (Path(model) / "detector.json").is_file():
        return model
    client = connect(uri)
    with mlflow_errors(uri):
        name, at, alias = model.removeprefix("models:/").partition("@")
        return f"models:/{name}/{client.get_model_version_by_alias(name, alias).version}" if at else _model_uri(client, model)


def _model_uri(client: Any, model: str) -> str:
    """The URI that MLflow downloads from; a run stands for the model it logged last, and in full."""
    from mlflow.entities import LoggedModelStatus

    if model.startswith("models:/"):
        return model
    run_id = model.removeprefix("runs:/").split("/")[0]
    run = client.get_run(run_id)
    outputs = run.outputs.model_outputs if run.outputs else []
    # A model belongs to its run before it is uploaded: one whose upload failed or was cut off is none.
    models = [client.get_logged_model(output.model_id) for output in outputs]
    whole = [model for model in models if model.status == LoggedModelStatus.READY]
    if not whole:
        raise TrackingError(f"run {run_id} ({run.info.status}): has no model; finish it with 'adjobs train --resume {run_id}'")
    # MLflow lists a run's models by their random ids; a resume and 'adjobs threshold' add to them.
    newest = max(whole, key=lambda model: model.creation_timestamp)
    return f"models:/{newest.model_id}"
