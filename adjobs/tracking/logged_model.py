"""The MLflow model of a run: a pyfunc from code, with the detector's folder as its artifact and no pickle."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

from PIL import Image

from adjobs.errors import TrackingError, one_line, shorten
from adjobs.inference.manifest import MANIFEST_FILE, Manifest, is_detector, read_manifest
from adjobs.tracking.client import connect, mlflow_errors
from adjobs.tracking.layout import RunRef
from adjobs.tracking.lookup import find_in_mlflow

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
# Shown in MLflow with the model, whose signature has outputs alone; see _signature.
INPUT = (
    "column 'image', or the only column: image files as bytes or base64 text; in Python also PIL images, uint8 or uint16 arrays "
    "(H, W), (H, W, 3) or (N, H, W, 3), pathlib.Path, and lists of these"
)
CODE_ARCHIVE = "adjobs.zip"  # pyfunc_model.py imports from it


def log_model(run: RunRef, detector: Path, registered: str | None) -> str:
    """Log a detector folder as a run's model; returns its ``models:/`` URI.

    Args:
        run: the open run.
        detector: folder written by :func:`adjobs.inference.detector_folder.save`.
        registered: registered model that gets a new version, or None.

    Raises:
        TrackingError: MLflow is down or refuses.
    """
    import mlflow
    from mlflow.models import Model

    client = connect(run.tracking_uri)
    with mlflow_errors(run.tracking_uri), _code_archive() as code:
        # The run alone does not tell MLflow where the model belongs: without this it goes to experiment 0, and to ./mlruns.
        mlflow.set_experiment(experiment_id=client.get_run(run.run_id).info.experiment_id)
        info = Model.log(
            artifact_path=None,
            name="model",
            flavor=_Pyfunc,
            run_id=run.run_id,
            registered_model_name=registered,
            python_model=str(Path(__file__).with_name("pyfunc_model.py")),
            artifacts={ARTIFACT: str(detector)},
            code_paths=[str(code)],
            signature=_signature(),
            input_example=_input_example(),
            validate_serving_input=False,
            flavor_name="pyfunc.ModelFromCode",
            metadata={"input": INPUT},
            pip_requirements=[f"{name}=={version(name)}" for name in REQUIREMENTS],
        )
    return str(info.model_uri)


class _Pyfunc:
    """MLflow's flavor, without the test of the example, which would load the model again into the process that trained it.

    ``Model.log`` takes ``validate_serving_input`` and hands it on to a function that does not (3.17.2).
    """

    @staticmethod
    def save_model(path: str, mlflow_model: Any, *, validate_serving_input: bool, **options: Any) -> None:
        import mlflow

        assert not validate_serving_input
        mlflow.pyfunc.save_model(path=path, mlflow_model=mlflow_model, **options)


@contextmanager
def _code_archive() -> Iterator[Path]:
    """The package as one file: MLflow sends and fetches the files of a folder one by one, and there are hundreds."""
    package = Path(__file__).parents[1]
    with TemporaryDirectory(prefix="adjobs-") as folder:
        archive = Path(folder, CODE_ARCHIVE)
        with ZipFile(archive, "w", ZIP_DEFLATED) as file:
            for path in sorted(package.rglob("*.py")):
                file.write(path, path.relative_to(package.parent))
        yield archive


def log_model_once(run: RunRef, detector: Path, registered: str | None) -> str:
    """Like :func:`log_model`, but a model that the run has logged already stays its only one, and so does its version.

    A process that was killed between its model and the end of its run logs the same model again.
    """
    import mlflow
    from mlflow.entities import LoggedModelStatus

    client = connect(run.tracking_uri)
    with mlflow_errors(run.tracking_uri):
        models = _models_of(client, client.get_run(run.run_id))
        ready = [model for model in models if model.status == LoggedModelStatus.READY]
        for model in models:
            if model not in ready:  # its upload was cut off
                client.delete_logged_model(model.model_id)
        if not ready:
            return log_model(run, detector, registered)
        uri = f"models:/{max(ready, key=lambda model: model.creation_timestamp).model_id}"
        if registered is not None and not client.search_model_versions(f"run_id='{run.run_id}'", max_results=1):
            mlflow.register_model(uri, registered)
        return uri


def _models_of(client: Any, run: Any) -> list[Any]:
    """The logged models of a run of MLflow, which lists deleted ones, too (3.17.2)."""
    from mlflow.exceptions import MlflowException

    models = []
    for output in run.outputs.model_outputs if run.outputs else []:
        try:
            models.append(client.get_logged_model(output.model_id))
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
    return models


def _signature() -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Array

    outputs = [
        ColSpec(DataType.double, "score"),
        ColSpec(DataType.boolean, "decision"),
        ColSpec(DataType.double, "threshold"),
        ColSpec(Array(Array(DataType.float)), "anomaly_map", required=False),
        ColSpec(DataType.double, "pixel_threshold", required=False),
    ]
    # None for the inputs: MLflow knows no type that is bytes, an array or an image, and with any other refuses or converts the
    # rest before the model is asked, which checks its input itself.
    return ModelSignature(outputs=Schema(outputs))


def _input_example() -> Any:
    """A request for MLflow's pages and for ``mlflow models predict``: a grey square of 8 pixels."""
    import pandas as pd

    file = BytesIO()
    Image.new("L", (8, 8), 128).save(file, "PNG")
    return pd.DataFrame({"image": [base64.b64encode(file.getvalue()).decode()]})


def download(uri: str, model: str, folder: Path) -> Path:
    """Fetch the detector folder of a model.

    Args:
        uri: tracking URI.
        model: a run's id, the start of one, or its name, ``runs:/…``, ``models:/name/version``, ``models:/name@alias`` or
            ``models:/m-…``, or a local folder that holds a detector.
        folder: where to put it.

    Raises:
        TrackingError: there is no such run or model, or the run has no model.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    local = Path(model)
    if is_detector(local):
        return local
    client, path = connect(uri), f"artifacts/{ARTIFACT}"
    folder.mkdir(parents=True, exist_ok=True)
    with mlflow_errors(uri):
        repository = get_artifact_repository(_model_uri(client, uri, model))
        # Not the whole model: its code is not needed.
        inside = Path(repository.download_artifacts(path, str(folder))) if repository.list_artifacts(path) else folder
    if not is_detector(inside):
        raise TrackingError(f"model '{model}': not one that adjobs logged; give a run of 'adjobs train' or a models:/ URI")
    return inside


def read_detector_manifest(uri: str, model: str) -> Manifest:
    """What a model's detector says of itself, thresholds included, without its weights.

    Args:
        uri: tracking URI.
        model: ``models:/name/version`` or ``models:/m-…``.

    Raises:
        TrackingError: there is no such model, or it is not one that adjobs logged.
        StorageError: the manifest is damaged.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    connect(uri)
    with TemporaryDirectory(prefix="adjobs-") as folder:
        try:
            with mlflow_errors(uri):
                get_artifact_repository(model).download_artifacts(f"artifacts/{ARTIFACT}/{MANIFEST_FILE}", folder)
        except TrackingError as error:
            problem = f"its detector cannot be read ({shorten(one_line(error))})"
            raise TrackingError(f"model '{model}': {problem}; choose one of 'adjobs train' whose files exist") from error
        return read_manifest(Path(folder) / "artifacts" / ARTIFACT)


def copy_detector(uri: str, model: str, folder: Path) -> Path:
    """Like :func:`download`, but always a private copy, whose manifest may be changed."""
    source = download(uri, model, folder)
    if folder in source.parents:
        return source
    return Path(shutil.copytree(source, folder / ARTIFACT))


def pin_model_uri(uri: str, model: str) -> str:
    """Resolve a run or an alias to what it stands for now: a logged model or a version, neither of which changes.

    Raises:
        TrackingError: there is no such run or model, or the run has no model.
    """
    if is_detector(Path(model)):
        return model
    client = connect(uri)
    with mlflow_errors(uri):
        name, separator, alias = model.removeprefix("models:/").partition("@")
        if separator:
            return f"models:/{name}/{client.get_model_version_by_alias(name, alias).version}"
        return _model_uri(client, uri, model)


def source_run_id(uri: str, model: str) -> str | None:
    """The run that logged a model, ``models:/…``; None where MLflow does not know it.

    Raises:
        TrackingError: there is no such model.
    """
    client = connect(uri)
    with mlflow_errors(uri):
        name, _, version = pin_model_uri(uri, model).removeprefix("models:/").rpartition("/")
        logged = client.get_model_version(name, version).run_id if name else client.get_logged_model(version).source_run_id
    return str(logged) if logged else None


def _model_uri(client: Any, uri: str, model: str) -> str:
    """The URI that MLflow downloads from; a run stands for the model it logged last, and in full."""
    from mlflow.entities import LoggedModelStatus

    if model.startswith("models:/"):
        return model
    run_id = find_in_mlflow(client, uri, model.removeprefix("runs:/").split("/")[0])
    run = client.get_run(run_id)
    # A model belongs to its run before it is uploaded: one whose upload failed or was cut off does not count.
    ready = [model for model in _models_of(client, run) if model.status == LoggedModelStatus.READY]
    if not ready:
        raise TrackingError(f"run {run_id} ({run.info.status}): has no model; finish it with 'adjobs train --resume {run_id}'")
    # MLflow lists a run's models by their random ids; a resume and 'adjobs threshold' add to them.
    newest = max(ready, key=lambda model: model.creation_timestamp)
    return f"models:/{newest.model_id}"
