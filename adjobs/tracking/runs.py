"""Creating and finding runs, in MLflow or in folders."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from adjobs.config.job import JobConfig
from adjobs.errors import Stopped, StorageError, TrackingError, one_line, shown
from adjobs.inference.manifest import is_detector
from adjobs.metrics import METRICS_VERSION
from adjobs.tracking.client import connect, mlflow_errors
from adjobs.tracking.experiments import experiment_id
from adjobs.tracking.folder import FolderRunReader, FolderRunWriter, create_folder_run, folder_uri, is_folder, run_folder
from adjobs.tracking.layout import TAG, DatasetInfo, ParentRun, RunRef, run_name
from adjobs.tracking.logged_model import download, source_run_id
from adjobs.tracking.lookup import find_anywhere, is_full_id
from adjobs.tracking.reader import MlflowRunReader, RunReader
from adjobs.tracking.source import git_commit, source_tags
from adjobs.tracking.writer import MlflowRunWriter, RunWriter
from adjobs.types import JobStatus
from adjobs.version import __version__

log = logging.getLogger(__name__)


def find_run(tracking_uri: str, home: Path, run_id: str) -> RunRef:
    """The run of this id or name: one without MLflow where the user's folder holds it, else one of MLflow.

    Args:
        tracking_uri: of MLflow.
        home: the user's folder.
        run_id: an id, the start of one, or a run's name, also after ``runs:/``. What else names a model is left as it is.

    Raises:
        TrackingError: several runs have ids that start so, or this name; or, unless it is a whole id, none has; or MLflow does
            not answer.
    """
    is_local_detector = bool(run_id) and is_detector(Path(run_id))
    run_id = run_id.removeprefix("runs:/").strip("/")
    ref = RunRef(folder_uri(home), run_id)
    if not run_id or "/" in run_id or is_local_detector:
        return RunRef(tracking_uri, run_id)
    if os.path.isdir(run_folder(ref)):  # noqa: PTH112 (any text)
        return ref
    if is_full_id(run_id):
        return RunRef(tracking_uri, run_id)
    match = find_anywhere(tracking_uri, run_folder(ref).parent, ref.tracking_uri, run_id)
    return RunRef(match.tracking_uri, match.run_id)


def fetch_detector(tracking_uri: str, home: Path, model: str, folder: Path) -> Path:
    """Fetch the detector folder of a model.

    Args:
        tracking_uri: of MLflow.
        home: the user's folder, in which runs without MLflow are.
        model: a run's id, the start of one, or its name, ``runs:/…``, ``models:/name/version``, ``models:/name@alias`` or
            ``models:/m-…``, or a local folder that holds a detector.
        folder: where to put what is downloaded.

    Raises:
        TrackingError: there is no such run or model, or the run has no model.
    """
    run = find_run(tracking_uri, home, model)
    if not is_folder(run.tracking_uri):
        return download(tracking_uri, run.run_id if is_full_id(run.run_id) else model, folder)
    reader = FolderRunReader(run)
    if "model" not in reader.info.tags:
        raise TrackingError(
            f"run {run.run_id} ({reader.info.status}): has no model; finish it with 'adjobs train --resume {run.run_id}'"
        )
    return Path(reader.info.tags["model"])


@contextmanager
def detector_folder(tracking_uri: str, home: Path, model: str | Path) -> Iterator[Path]:
    """The folder of a model's detector; a downloaded one goes when it has been read.

    Args:
        tracking_uri: of MLflow.
        home: the user's folder, in which runs without MLflow are.
        model: what :func:`fetch_detector` takes.

    Raises:
        TrackingError: there is no such run or model, or the run has no model.
        StorageError: a path that is no folder of a detector.
    """
    name = str(model)
    if isinstance(model, str | Path) and is_detector(Path(model)):
        yield Path(model)
        return
    is_path = os.path.isdir(name) or ("/" in name and not name.startswith(("models:/", "runs:/")))  # noqa: PTH112 (any text)
    if not isinstance(model, str | Path) or not name or is_path:
        raise StorageError(f"model {shown(name)}: is no folder of a detector; give a run id, a models:/ URI or such a folder")
    with TemporaryDirectory(prefix="adjobs-") as folder:
        yield fetch_detector(tracking_uri, home, name, Path(folder))


def source_run(tracking_uri: str, home: Path, model: str) -> RunRef | None:
    """The run that trained a model; None where that is not recorded, as of a detector's folder.

    Args:
        tracking_uri: of MLflow.
        home: the user's folder, in which runs without MLflow are.
        model: what :func:`fetch_detector` takes.

    Raises:
        TrackingError: MLflow does not answer, or there is no such run or model.
    """
    if is_detector(Path(model)):
        return None
    if not model.startswith("models:/"):
        return find_run(tracking_uri, home, model)
    run_id = source_run_id(tracking_uri, model)
    return RunRef(tracking_uri, run_id) if run_id else None


def open_writer(ref: RunRef) -> RunWriter:
    """The writer of an open run.

    Raises:
        TrackingError: MLflow does not answer.
    """
    return FolderRunWriter(ref) if is_folder(ref.tracking_uri) else MlflowRunWriter(ref)


def create_run(
    uri: str, job: JobConfig, dataset: DatasetInfo, storage: str, tags: Mapping[str, str], parent: ParentRun | None = None
) -> RunRef:
    """Open a run and record the job: parameters, tags, data set, split.

    Args:
        uri: tracking URI.
        job: the resolved job.
        dataset: what is known of the data.
        storage: where checkpoints go; ``{run}`` stands for the run's id.
        tags: more tags, such as the Ray job's id.
        parent: the search that it belongs to.

    Raises:
        TrackingError: MLflow is down or refuses.
    """
    name = f"{run_name(job)}-{time.strftime('%m%d-%H%M%S') if parent is None else parent.suffix}"
    own_tags = {**_job_tags(job, dataset), **tags} | ({} if parent is None else {"kind": parent.kind})
    ref = create_folder_run(uri, name, own_tags) if is_folder(uri) else _create_mlflow_run(uri, job, name, own_tags, parent)
    writer = open_writer(ref)
    try:
        writer.set_tags({"storage": storage.replace("{run}", ref.run_id)})
        writer.record_job(job, dataset)
    except BaseException as error:
        close_after_error(ref, error)
        raise
    return ref


def close_after_error(ref: RunRef, error: BaseException) -> None:
    """Close a run with the error that ended it. Where that fails, too, only a warning is logged, so that the error is seen."""
    status = JobStatus.KILLED if isinstance(error, KeyboardInterrupt | Stopped) else JobStatus.FAILED
    try:
        open_writer(ref).close(status, error)
    except Exception as failure:
        log.warning("run %s could not be marked as %s (%s)", ref.run_id, status, one_line(failure))


def open_reader(ref: RunRef) -> RunReader:
    """The reader of a run.

    Raises:
        TrackingError: MLflow does not answer, or there is no such run.
    """
    return FolderRunReader(ref) if is_folder(ref.tracking_uri) else MlflowRunReader(ref)


def _create_mlflow_run(uri: str, job: JobConfig, name: str, tags: Mapping[str, str], parent: ParentRun | None) -> RunRef:
    if job.track is None:
        raise ValueError("a job with track: none has no experiment; its runs are kept in folders")
    client = connect(uri)
    experiment = experiment_id(client, uri, job.track.experiment)
    nested = {} if parent is None else {"mlflow.parentRunId": parent.search}
    own = {f"{TAG}{key}": value for key, value in tags.items()}
    source = source_tags(is_job=tags.get("ray_job", "none") != "none")
    with mlflow_errors(uri):
        run = client.create_run(experiment, run_name=name, tags=own | source | nested)
    return RunRef(uri, str(run.info.run_id))


def _job_tags(job: JobConfig, dataset: DatasetInfo) -> dict[str, str]:
    return {
        "method": job.method,
        "data_fingerprint": dataset.fingerprint,
        "data_format": dataset.format,
        "preset": job.preset or "none",
        "supervision": job.supervision,
        "version": __version__,
        "metrics_version": str(METRICS_VERSION),
        "git_commit": git_commit() or "unknown",
        "excluded": str(sum(problem.severity == "error" for problem in dataset.problems)),
        "warnings": str(sum(problem.severity == "warning" for problem in dataset.problems)),
        **({} if job.data.version is None else {"data_version": str(job.data.version)}),
    }
