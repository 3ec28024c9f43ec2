"""What becomes of a method that was trained for a comparison: its validation, and what it costs. It sees no test image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from adjobs import methods
from adjobs.errors import TrackingError
from adjobs.evaluation.result import compute_image_metrics, compute_pixel_metrics
from adjobs.jobs.finalize import choose_job_thresholds, log_thresholds, write_detector
from adjobs.metrics.pixel_intervals import resample_pixel_metric
from adjobs.training.device import peak_memory_mib
from adjobs.training.worker import FinishedTraining
from adjobs.tuning.objective import PIXEL_METRICS
from adjobs.types import ImageScores

OUTCOME_FILE = "candidate.json"
RESAMPLES = 4000
SEED = 0  # of the bootstrap, for all methods the same: the differences are paired


@dataclass(frozen=True)
class CandidateOutcome:
    """A trained method.

    Attributes:
        values: metrics of the validation split, without undefined ones.
        resampled: the pixel metric that ranks in each resample of a bootstrap; empty if an image metric does.
        train_seconds: of the training with its validations.
        ms_per_image: of prediction, on the validation split.
        peak_memory_mib: of the training and the prediction: of the GPU, or of the process.
        detector_mib: size of the detector's folder.
        selected_checkpoint: number of the checkpoint that is evaluated.
        cut_stages: stages that the time limit ended, such as ``distil 120/300``, with the steps taken and planned.
    """

    values: Mapping[str, float]
    resampled: tuple[float, ...]
    train_seconds: float
    ms_per_image: float
    peak_memory_mib: float
    detector_mib: float
    selected_checkpoint: int
    cut_stages: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any], run_id: str) -> Self:
        """The inverse of :meth:`to_dict`.

        Raises:
            TrackingError: the document of this run is damaged.
        """
        try:
            fields = {**document, "resampled": tuple(document["resampled"]), "cut_stages": tuple(document["cut_stages"])}
            return cls(**fields)
        except (KeyError, TypeError) as error:
            raise TrackingError(f"run {run_id}: {OUTCOME_FILE} is damaged; start a new comparison") from error


def finalizer(metric: str) -> partial[CandidateOutcome]:
    """What rank 0 does with a trained method, ready to be pickled; ``metric`` is the one that ranks."""
    return partial(finalize_candidate, metric=metric)


def finalize_candidate(training: FinishedTraining, metric: str) -> CandidateOutcome:
    """Evaluate on validation, and store what a person may want to see: metrics, scores, thresholds, costs."""
    fit, writer = training.fit, training.writer
    timed = training.evaluator.cached(training.split.val)
    scores = timed.scores
    native_threshold = methods.spec(training.job.method).native_threshold
    values = compute_image_metrics(scores, native_threshold) | compute_pixel_metrics(scores)
    thresholds = choose_job_thresholds(training, scores)
    with TemporaryDirectory(prefix="adjobs-") as temporary:
        folder = Path(temporary) / "detector"
        write_detector(folder, training, thresholds, scores)
        detector_mib = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20
    outcome = CandidateOutcome(
        values={name: value for name, value in values.items() if value is not None},
        resampled=_resample(metric, values.get(metric), scores),
        train_seconds=fit.seconds,
        ms_per_image=timed.ms_per_image,
        peak_memory_mib=peak_memory_mib(next(training.evaluator.method.parameters()).device),
        detector_mib=detector_mib,
        selected_checkpoint=fit.selected_checkpoint,
        cut_stages=fit.cut_stages,
    )
    costs = ("train_seconds", "ms_per_image", "peak_memory_mib", "detector_mib")
    numbers = {f"val/{name}": value for name, value in outcome.values.items()}
    writer.log_metrics(numbers | {f"costs/{name}": getattr(outcome, name) for name in costs}, fit.checkpoints)
    log_thresholds(writer, thresholds)
    writer.log_scores(scores, thresholds.image.value, "val")
    writer.log_json(outcome.to_dict(), OUTCOME_FILE)
    return outcome


def _resample(metric: str, value: float | None, scores: ImageScores) -> tuple[float, ...]:
    masks = scores.complete_masks
    if metric not in PIXEL_METRICS or value is None or scores.anomaly_maps is None or masks is None:
        return ()
    resampled = resample_pixel_metric(metric, value, scores.anomaly_maps, masks, RESAMPLES, SEED)
    return tuple(round(float(number), 6) for number in resampled)
