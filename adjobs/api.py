"""The library: what the command line does, as functions with typed results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adjobs import methods
from adjobs.config.environment import load_settings
from adjobs.config.job import JobConfig
from adjobs.config.resolve import override, read_job, resolve

if TYPE_CHECKING:
    from adjobs.comparison.result import ComparisonResult
    from adjobs.evaluation.result import EvaluationResult
    from adjobs.inference.detector import Detector, ImageInput, ImagePrediction
    from adjobs.inference.engine_contract import EngineName, GraphFormat
    from adjobs.inference.export.export import ExportResult
    from adjobs.inference.torch_detector import TorchDetector
    from adjobs.jobs.result import TrainResult
    from adjobs.jobs.run import Backend, OnProgress
    from adjobs.queue.requests import Submission
    from adjobs.tuning.result import SearchResult

Job = str | Path | Mapping[str, Any] | JobConfig
"""A job file, its content, or a resolved job."""


def list_methods() -> list[str]:
    """Names of the installed methods."""
    return methods.names()


def train(job: Job, *, overrides: Iterable[str] = (), backend: Backend = "local", progress: bool = True) -> TrainResult:
    """Train a job and evaluate the model.

    Args:
        job: a job file, a mapping of its keys, or a resolved job.
        overrides: changes such as ``"params.gamma=3"``, values in YAML.
        backend: ``local`` trains in this process, ``ray`` on a cluster (or a local Ray if none is configured).
        progress: show a bar, and what takes long, on standard error.

    Raises:
        AdjobsError: the job cannot be done; says why in one line.
    """
    resolved, settings = load_job(job, overrides), load_settings()

    from adjobs.jobs import run
    from adjobs.training.progress import print_waits

    with print_waits(progress), _bar(progress) as on_progress:
        return run.train(resolved, settings, backend=backend, on_progress=on_progress)


def tune(
    job: Job,
    space: str | Path | Mapping[str, Any],
    *,
    overrides: Iterable[str] = (),
    name: str | None = None,
    time_budget_s: float | None = None,
    progress: bool = True,
    **options: Any,
) -> SearchResult:
    """Search for hyperparameters on Ray, train the choice in full and test it once.

    Args:
        job: a job file, a mapping of its keys, or a resolved job; its values are the first trial.
        space: a space file, or its content.
        overrides: changes of the job such as ``"data.image_size=128"``.
        name: of the search, to resume it by; None makes one.
        time_budget_s: seconds in which trials and final training are to end; None: no limit.
        progress: show the trials on standard error.
        options: of :class:`adjobs.tuning.plan.SearchOptions`, such as ``trials=30`` or ``metrics=("image_auroc",)``.

    Raises:
        AdjobsError: the job cannot be done; says why in one line.
        TypeError: unknown options; lists the available ones.
    """
    from adjobs.tuning.plan import SearchOptions

    available = [field.name for field in fields(SearchOptions)]
    unknown = sorted(options.keys() - set(available))
    if unknown:
        raise TypeError(f"tune: unknown options {', '.join(unknown)}; available: {', '.join(available)}")
    resolved, settings = load_job(job, overrides), load_settings()

    from adjobs.training.progress import print_waits
    from adjobs.tuning.display import Display
    from adjobs.tuning.search import SearchObserver, run_search
    from adjobs.tuning.space import parse_space, read_space

    parsed = parse_space(dict(space), "space") if isinstance(space, Mapping) else read_space(Path(space))
    chosen = SearchOptions(**options)
    with print_waits(progress), Display() if progress else nullcontext(SearchObserver()) as observer:
        return run_search(resolved, parsed, chosen, settings, observer, name=name, time_budget_s=time_budget_s)


def compare(
    comparison: str | Path | Mapping[str, Any],
    *,
    overrides: Iterable[str] = (),
    backend: Backend = "local",
    name: str | None = None,
    progress: bool = True,
) -> ComparisonResult:
    """Train several methods on the same splits in equal time, rank them on validation, and test the one that is recommended.

    Args:
        comparison: a job file with a section ``compare``, or a mapping of its keys, such as ``{"data": {"uri": "images"}}``.
        overrides: changes such as ``"compare.budget=2h"``.
        backend: ``local`` trains in this process, ``ray`` on a cluster (or a local Ray if none is configured).
        name: of the comparison, to resume it by; None makes one.
        progress: show the trainings on standard error.

    Raises:
        AdjobsError: the comparison cannot be done; says why in one line.
    """
    from adjobs.comparison.config import parse_comparison

    if isinstance(comparison, Mapping):
        document, source = dict(comparison), "comparison"
    else:
        document, source = read_job(Path(comparison)), str(comparison)
    config, settings = parse_comparison(override(document, overrides, source), source), load_settings()

    from adjobs.comparison.observer import ComparisonObserver, Display
    from adjobs.comparison.run import run_comparison
    from adjobs.training.progress import print_waits

    with print_waits(progress), Display() if progress else nullcontext(ComparisonObserver()) as observer:
        return run_comparison(config, settings, observer, backend=backend, name=name)


def predict(
    model: str | Path, images: ImageInput | list[ImageInput] | tuple[ImageInput, ...], *, device: str = "auto"
) -> list[ImagePrediction]:
    """Load a detector and predict images; for several calls use :func:`load_detector`.

    Args:
        model: as for :func:`load_detector`.
        images: one image or several, as :meth:`adjobs.inference.detector.Detector.__call__` takes them.
        device: ``auto`` (a GPU where there is one), or a torch device.
    """
    from adjobs.inference.detector import ImageInput

    detector = load_detector(model, device=device)
    return [detector(images)] if isinstance(images, ImageInput) else detector(images)


def load_detector(model: str | Path, *, device: str = "auto", engine: EngineName = "auto") -> Detector:
    """Load a trained detector.

    Args:
        model: a run id, ``models:/name/version``, ``models:/name@alias``, ``models:/m-…``, or a folder that holds a detector,
            also one that :func:`export` wrote, which needs no PyTorch.
        device: ``auto`` (a GPU where there is one), or a torch device.
        engine: what computes: ``torch``, ``openvino`` (on processors; compiled now, in seconds), or ``auto``; see
            :func:`adjobs.inference.engine.create_engine`.

    Raises:
        TrackingError: MLflow does not answer, or there is no such run or model.
        StorageError: it is not a detector.
        JobError: the device or the engine is not available.
    """
    from adjobs.inference.loading import load
    from adjobs.tracking.runs import detector_folder

    settings = load_settings()
    with detector_folder(settings.tracking_uri, settings.home, model) as folder:
        return load(folder, device, engine)


def load_trained(model: str | Path, *, device: str = "auto", engine: EngineName = "auto") -> TorchDetector:
    """Load a trained detector with its method, as :func:`load_detector` does."""
    from adjobs.inference.torch_detector import TorchDetector
    from adjobs.tracking.runs import detector_folder

    settings = load_settings()
    with detector_folder(settings.tracking_uri, settings.home, model) as folder:
        return TorchDetector.load(folder, device, engine)


def export(
    model: str | Path,
    out: str | Path,
    *,
    format: GraphFormat = "onnx",
    images: Sequence[str | Path] = (),
    count: int = 32,
) -> ExportResult:
    """Export a trained detector for ONNX Runtime or OpenVINO, compared with PyTorch on real images before it is written.

    Args:
        model: as for :func:`load_detector`.
        out: folder for the model, with everything that :func:`load_detector` needs.
        format: ``onnx`` or ``openvino``.
        images: files and folders of images to compare on; none: validation images of the run.
        count: of the images to compare on, at most.

    Raises:
        JobError: the method cannot be exported, or the exported model says something else; nothing is written.
        DataError: no images to compare on.
        StorageError: ``out`` holds other files.
    """
    from adjobs.jobs.export import export_model

    return export_model(str(model), Path(out), format, load_settings(), images=images, count=count)


def evaluate(model: str | Path, data: str | Path, *, format: str = "auto", device: str = "auto") -> EvaluationResult:
    """Evaluate a trained detector on the labelled images of a data set, at the detector's thresholds.

    Metrics on images that the detector was trained on mean nothing: give other data, or read the run's own result.

    Args:
        model: as for :func:`load_detector`.
        data: folder, ``s3://`` URI, or ``elpv``.
        format: layout of the data; ``auto`` recognises it.
        device: ``auto`` (a GPU where there is one), or a torch device.

    Returns:
        The metrics as split ``test``.

    Raises:
        DataError: the data cannot be read, or are those that the detector was trained on.
    """
    from adjobs.jobs.evaluate import evaluate_detector

    return evaluate_detector(load_trained(model, device=device, engine="torch"), str(data), format, load_settings().cache)


def submit(
    job: Job,
    *,
    overrides: Iterable[str] = (),
    name: str | None = None,
    priority: int = 0,
    after: Iterable[str] = (),
    force: bool = False,
) -> Submission:
    """Queue a job on the cluster, as ``adjobs submit`` does.

    Args:
        job: a job file, a mapping of its keys, or a resolved job. With a section ``compare`` it is a comparison; the file of a
            retraining is one of these.
        overrides: as for :func:`train`; a retraining takes none.
        name: for people; None: that of the file.
        priority: from -1000 to 1000, higher first.
        after: ids of jobs that must be done before this one starts.
        force: a job of its own, even if an equal one is queued or running; a retraining is always alone.

    Raises:
        JobError: the job is wrong, or the queue would refuse it, such as for images that only this machine has.
        QueueError: no queue is known, or it does not answer or refuses.
    """
    from adjobs.queue.client import QueueClient
    from adjobs.queue.requests import RequestOptions, Submission, name_of, refuse_problems, request_of

    document, source = _read_document(job)
    path = Path(job) if isinstance(job, str | Path) else None
    options = RequestOptions(name or ("job" if path is None else name_of(path)), priority, tuple(after), force)
    client = QueueClient.from_settings(load_settings())
    request = request_of(document, path, overrides, options)
    refuse_problems([source], [request], client.preflight([request])["jobs"])
    (submitted,) = client.submit([request])
    return Submission(submitted["id"], submitted["created"], submitted["position"])


def load_job(job: Job, overrides: Iterable[str] = ()) -> JobConfig:
    """A resolved job with changes."""
    document, source = _read_document(job)
    return resolve(override(document, overrides), source=source)


def _read_document(job: Job) -> tuple[dict[str, Any], str]:
    """The keys of a job, and how errors name it."""
    if isinstance(job, JobConfig):
        return job.model_dump(mode="json"), "job"
    return (dict(job), "job") if isinstance(job, Mapping) else (read_job(Path(job)), str(job))


@contextmanager
def _bar(progress: bool) -> Iterator[OnProgress]:
    from adjobs.training.progress import ProgressBar

    if not progress:
        yield lambda update: None
        return
    with ProgressBar() as bar:
        yield bar
