"""Many images through a trained detector, in this process or on a Ray cluster, into a folder of results."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, Protocol

from adjobs.config.settings import Settings
from adjobs.inference.detector import Detector
from adjobs.inference.engine_contract import EngineName
from adjobs.inference.files import predict_into
from adjobs.inference.loading import load
from adjobs.inference.manifest import read_manifest
from adjobs.inference.results import DetectorIdentity, ResultFolder
from adjobs.inference.truth import Truth
from adjobs.reporting.predictions import PredictionPage, TruthCounts
from adjobs.storage.arrow import require_parquet
from adjobs.storage.base import file_sha256
from adjobs.tracking.runs import detector_folder

Format = Literal["jsonl", "parquet"]
PredictBackend = Literal["local", "ray"]


@dataclass(frozen=True)
class PredictOptions:
    """How images are predicted.

    Attributes:
        engine: what computes, see :func:`adjobs.inference.engine.create_engine`.
        overlays: whether the anomaly maps are drawn over the images.
        format: ``parquet`` writes a table at the end, beside the lines.
        resume: keep what an earlier call has written.
        backend: this process, or a Ray cluster.
        workers: number of processes on the cluster; None is one for each GPU, or for each node where there are none.
        truth: labels of images by name, where they are known, for the page and its totals.
    """

    engine: EngineName = "auto"
    overlays: bool = True
    format: Format = "jsonl"
    resume: bool = False
    backend: PredictBackend = "local"
    workers: int | None = None
    truth: Mapping[str, Truth] = field(default_factory=dict)


@dataclass(frozen=True)
class BatchResult:
    """What a call has done.

    Attributes:
        model: as it was named.
        threshold: images are anomalous from this score on.
        out: folder of the results.
        file: the lines, or the table.
        page: the page that shows them.
        images: number of images that were named.
        kept: of these, had a line of an earlier call.
        anomalous: of those predicted now.
        failed: could not be predicted.
        warnings: differ in bit depth or range of values from the training images.
        seconds: from the first image on, without loading the detector.
        labelled: decisions of the images in the folder whose label is known.
    """

    model: str
    threshold: float
    out: str
    file: str
    page: str
    images: int
    kept: int
    anomalous: int
    failed: int
    warnings: int
    seconds: float
    labelled: TruthCounts

    @property
    def images_per_s(self) -> float | None:
        """Of the images predicted now; None if there were none."""
        predicted = self.images - self.kept
        return predicted / self.seconds if predicted and self.seconds > 0 else None

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {**asdict(self), "images_per_s": self.images_per_s}


class PredictObserver(Protocol):
    """Is informed of a prediction."""

    def started(self, total: int, kept: int) -> None:
        """The detector is loaded; of the images so many have a line already."""

    def predicted(self, line: dict[str, Any]) -> None:
        """A line was written."""


class _Counter:
    """Counts, and passes on to another observer."""

    def __init__(self, observer: PredictObserver | None) -> None:
        self._observer = observer
        self.kept = self.anomalous = self.failed = self.warnings = 0
        self.started_at = time.perf_counter()

    def started(self, total: int, kept: int) -> None:
        self.kept, self.started_at = kept, time.perf_counter()
        if self._observer is not None:
            self._observer.started(total, kept)

    def predicted(self, line: dict[str, Any]) -> None:
        self.anomalous += line.get("decision") == "anomalous"
        self.failed += "error" in line
        self.warnings += "warning" in line
        if self._observer is not None:
            self._observer.predicted(line)


def predict_batch(
    model: str | Path,
    names: Sequence[str],
    out: Path,
    settings: Settings,
    options: PredictOptions | None = None,
    observer: PredictObserver | None = None,
) -> BatchResult:
    """Predict images into a folder: a line each, in their order, overlays, and a page that shows them.

    See :func:`adjobs.inference.files.predict_files`.

    Args:
        model: a run id, ``models:/name/version``, ``models:/name@alias``, ``models:/m-…``, or a folder that holds a detector.
        names: of the images, see :func:`adjobs.inference.inputs.find_inputs`.
        out: the folder.
        settings: where MLflow and the cluster are.
        options: how.
        observer: is informed.

    Raises:
        TrackingError: MLflow does not answer, or there is no such run or model.
        StorageError: it is not a detector; the folder holds other files of these names or, to be resumed, lines of another
            detector; or the disk refuses.
        JobError: the device or the engine is not available.
        ClusterError: Ray cannot be reached, or does not have what is requested.
    """
    options, counter = options or PredictOptions(), _Counter(observer)
    if options.format == "parquet":
        require_parquet()
    with ExitStack() as stack:
        results = stack.enter_context(ResultFolder(names, out, draw=options.overlays))  # checked before the detector is loaded
        local = options.backend == "local"
        predict, identity = stack.enter_context((_local if local else _on_ray)(model, settings, options))
        remaining = results.start(identity, resume=options.resume)
        counter.started(len(names), len(names) - len(remaining))
        with closing(predict(results, remaining)) as lines:
            for line in lines:
                counter.predicted(line)
        seconds = time.perf_counter() - counter.started_at
        file = results.write_table() if options.format == "parquet" else results.lines_file
        page = PredictionPage(str(model), identity.threshold, options.truth).add_all(results.lines())
        path = results.write_page(page.render())
    return BatchResult(
        model=str(model),
        threshold=identity.threshold,
        out=str(results.path),
        file=str(file),
        page=str(path),
        images=len(names),
        kept=counter.kept,
        anomalous=counter.anomalous,
        failed=counter.failed,
        warnings=counter.warnings,
        seconds=round(seconds, 3),
        labelled=page.counts,
    )


Predict = Callable[[ResultFolder, Sequence[str]], Generator[dict[str, Any], None, None]]


@contextmanager
def _local(model: str | Path, settings: Settings, options: PredictOptions) -> Iterator[tuple[Predict, DetectorIdentity]]:
    detector, identity = load_with_identity(model, settings, options.engine)

    def predict(results: ResultFolder, names: Sequence[str]) -> Generator[dict[str, Any], None, None]:
        return predict_into(results, detector, names, draw=options.overlays)

    with detector.throughput_mode():
        yield predict, identity


@contextmanager
def _on_ray(model: str | Path, settings: Settings, options: PredictOptions) -> Iterator[tuple[Predict, DetectorIdentity]]:
    from adjobs.jobs.predict_ray import PredictTask, plan_cluster, predict_on_cluster
    from adjobs.training.backends.ray import connected

    with detector_folder(settings.tracking_uri, settings.home, model) as folder:
        identity = identify(folder, str(model))
        task = PredictTask({path.name: path.read_bytes() for path in _files(folder)}, options.engine, options.overlays)

    def predict(results: ResultFolder, names: Sequence[str]) -> Generator[dict[str, Any], None, None]:
        return predict_on_cluster(results, names, task, plan_cluster(options.workers))

    with connected(settings):
        yield predict, identity


def load_with_identity(model: str | Path, settings: Settings, engine: EngineName) -> tuple[Detector, DetectorIdentity]:
    """Load a detector, and say which one it is."""
    with detector_folder(settings.tracking_uri, settings.home, model) as folder:
        return load(folder, "auto", engine), identify(folder, str(model))


def identify(folder: Path, model: str) -> DetectorIdentity:
    """Which detector a folder holds: other weights, parameters or thresholds are another one.

    Raises:
        StorageError: the folder holds no detector, or it was damaged.
    """
    threshold = read_manifest(folder).threshold.value
    digest = sha256()
    for path in _files(folder):
        digest.update(f"{path.name} {file_sha256(path)}\n".encode())
    return DetectorIdentity(digest.hexdigest(), threshold, model)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
