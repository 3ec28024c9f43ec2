"""What a trained method leaves behind: thresholds, metrics, figures, scores, and the model."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from adjobs import methods
from adjobs.data.cache.images import ImageCache
from adjobs.data.splits.assignment import normal_train_digest
from adjobs.evaluation.evaluate import TimedScores
from adjobs.evaluation.result import EvaluationResult, SplitMetrics, compute_image_metrics, compute_split_metrics
from adjobs.evaluation.thresholds import Thresholds, choose_thresholds
from adjobs.inference.detector_folder import save
from adjobs.inference.manifest import Manifest
from adjobs.jobs.result import FinalizedRun
from adjobs.metrics import CONFIDENCE, METRICS_VERSION
from adjobs.tracking.layout import METRICS_FILE, TEST_COLUMNS, THRESHOLDS_FILE
from adjobs.tracking.writer import RunWriter
from adjobs.training.worker import FinishedTraining
from adjobs.types import ImageScores
from adjobs.waits import waiting_for


def finalize_run(training: FinishedTraining) -> FinalizedRun:
    """Choose the thresholds on validation, evaluate, and store everything in the open run."""
    started_at = time.perf_counter()
    evaluator, fit, writer = training.evaluator, training.fit, training.writer
    # If the last checkpoint was selected, its validation is still there.
    with waiting_for(f"evaluating {len(training.split.val)} validation and {len(training.split.test)} test images"):
        timed = {"val": evaluator.cached(training.split.val), "test": evaluator.evaluate(training.split.test)}
    with waiting_for("choosing thresholds and computing metrics with their intervals"):
        evaluation = _evaluate(training, timed)
    log_thresholds(writer, evaluation.thresholds)
    log_metrics(writer, training, timed["val"].scores, evaluation)
    with waiting_for("drawing and storing figures"):
        _log_tables_and_figures(training, timed, evaluation)
    with waiting_for("storing the model"):
        model = _log_detector(training, evaluation.thresholds, timed["val"].scores)
    writer.set_tags(
        {"model": model, "selected_checkpoint": str(fit.selected_checkpoint), "checkpoints": str(fit.checkpoints)}
        | {"threads": str(torch.get_num_threads())}  # by which sums are rounded in another order
        | ({"cut_stages": ", ".join(fit.cut_stages)} if fit.cut_stages else {})
        | ({"undefined_metrics": ", ".join(evaluation.undefined)} if evaluation.undefined else {})
    )
    from adjobs.jobs.describe import describe  # matplotlib, which drivers and trials need not import

    track = training.job.track
    with waiting_for("writing the report"):
        describe(writer, None if track is None else track.model)
    return FinalizedRun(
        evaluation=evaluation,
        model=model,
        images_per_s=None if math.isnan(fit.images_per_s) else fit.images_per_s,
        selected_checkpoint=fit.selected_checkpoint,
        finalize_seconds=time.perf_counter() - started_at,
    )


def _evaluate(training: FinishedTraining, timed: Mapping[str, TimedScores]) -> EvaluationResult:
    thresholds = choose_job_thresholds(training, timed["val"].scores)
    splits = {
        split: compute_split_metrics(scores.scores, thresholds.image.value, thresholds.pixel_value, training.evaluator.dataset)
        for split, scores in timed.items()
    }
    return EvaluationResult(splits, thresholds, timed["test"].ms_per_image)


def choose_job_thresholds(training: FinishedTraining, val: ImageScores) -> Thresholds:
    """Both thresholds as the job wants them."""
    image = training.job.threshold.to_policy()
    return choose_thresholds(image, training.job.pixel_threshold.to_policy(image.confidence), val)


def log_metrics(writer: RunWriter, training: FinishedTraining, val: ImageScores, evaluation: EvaluationResult) -> None:
    """Log the metrics that people choose by, at the step of the last checkpoint, and store all with their intervals."""
    fit, thresholds = training.fit, evaluation.thresholds
    # Those of each evaluation interval stay in the history; the latest values in MLflow are now those of the model.
    of_validation = compute_image_metrics(val, methods.spec(training.job.method).native_threshold)
    values = {f"val/{name}": value for name, value in of_validation.items()} | test_columns(evaluation.splits["test"])
    values |= {"test/ms_per_image": evaluation.ms_per_image, "threshold": thresholds.image.value}
    writer.log_metrics(values, fit.checkpoints)
    splits = {split: metrics.to_dict() for split, metrics in evaluation.splits.items()}
    writer.log_json({"metrics_version": METRICS_VERSION, "confidence": CONFIDENCE, "splits": splits}, METRICS_FILE)


def test_columns(metrics: SplitMetrics) -> dict[str, float | None]:
    """The metrics of the test split that MLflow holds, such as ``test/image_auroc``; all others are in ``metrics.json``."""
    return {f"test/{name}": value for name, value in metrics.values().items() if name in TEST_COLUMNS}


def log_thresholds(writer: RunWriter, thresholds: Thresholds) -> None:
    """Store both thresholds with their bounds; ``history`` gets an entry for each later change."""
    document: dict[str, Any] = {**thresholds.to_dict(), "history": []}
    writer.log_json(document, THRESHOLDS_FILE)


def _log_tables_and_figures(training: FinishedTraining, timed: Mapping[str, TimedScores], evaluation: EvaluationResult) -> None:
    from adjobs.reporting import figures  # matplotlib, which drivers and trials need not import

    writer, threshold = training.writer, evaluation.thresholds.image.value
    curve = figures.training(writer.metric_history(), training.fit.selected_checkpoint)
    if curve is not None:
        writer.log_figure(curve, "figures/training.png")
    for split, scores in timed.items():
        writer.log_scores(scores.scores, threshold, split)
        for name, figure in figures.of_split(scores.scores, threshold, split, evaluation.splits[split]).items():
            writer.log_figure(figure, f"figures/{split}_{name}.png")
    _log_galleries(writer, timed["test"].scores, threshold, training.evaluator.cache)


def _log_galleries(writer: RunWriter, scores: ImageScores, threshold: float, cache: ImageCache) -> None:
    """The test images that teach most: misses, false alarms, hits."""
    from adjobs.reporting import figures

    def image_of(name: str) -> np.ndarray:
        return np.asarray(cache.images[cache.index_of[name]])

    for name, figure in figures.galleries(scores, threshold, "test", image_of).items():
        writer.log_figure(figure, f"figures/test_gallery_{name}.png")


def write_detector(folder: Path, training: FinishedTraining, thresholds: Thresholds, val: ImageScores) -> None:
    """Write the folder of a trained detector."""
    job, evaluator = training.job, training.evaluator
    normal_maps = [] if val.anomaly_maps is None else val.anomaly_maps[val.labels == 0]
    manifest = Manifest(
        method=job.method,
        params=job.params,
        image_size=job.data.image_size,
        threshold=thresholds.image,
        pixel_threshold=thresholds.pixel,
        data_fingerprint=training.fingerprint,
        image_reading=training.reading,
        normal_train_digest=normal_train_digest(evaluator.dataset, training.split.train),
        map_floor=float(np.median(normal_maps)) if len(normal_maps) else None,
    )
    save(folder, evaluator.method, manifest)


def _log_detector(training: FinishedTraining, thresholds: Thresholds, val: ImageScores) -> str:
    """Log the model; returns what loads it."""
    track = training.job.track
    with TemporaryDirectory(prefix="adjobs-") as temporary:
        folder = Path(temporary) / "detector"
        write_detector(folder, training, thresholds, val)
        if training.fence is not None:
            training.fence.ensure_current()
        return training.writer.log_model_once(folder, None if track is None else track.model)
