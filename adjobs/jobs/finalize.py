"""What a trained method leaves behind: thresholds, measures, figures, scores, and the model."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from torch import nn

from adjobs import methods
from adjobs.config.job import JobConfig
from adjobs.data.cache.images import ImageCache
from adjobs.data.dataset import Dataset
from adjobs.data.splits.assignment import SplitAssignment, normal_train_digest
from adjobs.evaluation import evaluate
from adjobs.evaluation.evaluate import DeviceConfig, SplitMetrics, TimedScores
from adjobs.inference import detector
from adjobs.metrics import CONFIDENCE, METRICS_VERSION
from adjobs.metrics.pixel_threshold import PixelThreshold, choose_pixels, default_pixel_policy, describe_pixels
from adjobs.metrics.threshold import Threshold, choose, describe
from adjobs.tracking.logged_model import log_model
from adjobs.tracking.run import METRICS_FILE, THRESHOLDS_FILE, RunWriter
from adjobs.training.loop import FitResult
from adjobs.types import ImageScores


class CachedEvaluator:
    """Predictions of the method as it is; the last ones are kept, because the last validation is the final one, too."""

    def __init__(self, method: nn.Module, cache: ImageCache, index: Dataset, runner: DeviceConfig) -> None:
        self.method, self.cache, self.index, self._runner = method, cache, index, runner
        self._kept: TimedScores | None = None

    def evaluate(self, part: tuple[str, ...]) -> TimedScores:
        """Predict a part anew, and keep the answer."""
        self._kept = evaluate.evaluate(self.method, self.cache, self.index, part, self._runner)
        return self._kept

    def cached(self, part: tuple[str, ...]) -> TimedScores:
        """The kept predictions if they are of this part, else new ones."""
        return self._kept if self._kept is not None and self._kept.scores.ids == part else self.evaluate(part)

    def invalidate(self) -> None:
        """The method has changed."""
        self._kept = None


def finalize_run(
    job: JobConfig, fingerprint: str, split: SplitAssignment, evaluator: CachedEvaluator, trained: FitResult, recorder: RunWriter
) -> dict[str, Any]:
    """Choose the thresholds on validation, measure, and store everything in the open run.

    Args:
        job: the resolved job.
        fingerprint: of the data.
        split: which sample is in which part.
        look: the method with the selected weights, and the data.
        trained: how the training ended.
        recorder: of the open run.

    Returns:
        The summary that ``adjobs train`` prints.
    """
    from adjobs.reporting import figures

    begin = time.perf_counter()
    timed = {"val": evaluator.cached(split.val), "test": evaluator.evaluate(split.test)}
    val = timed["val"].scores
    threshold, pixel = choose_threshold(job, val), choose_pixel_threshold(job, val)
    measures = {part: measure(t.scores, threshold, pixel, evaluator.index) for part, t in timed.items()}
    costs = {"test/ms_per_image": timed["test"].ms_per_image, "train/selected_round": float(trained.selected_round)}
    course = figures.training(recorder.history(), trained.selected_round)
    if course is not None:
        recorder.figure(course, "figures/training.png")
    # Round by round these were measured, too; MLflow's newest are now those of the model.
    of_rounds = evaluate.measure_images(val, methods.spec(job.method).native_threshold)
    newest = {f"val/{name}": value for name, value in of_rounds.items()} | flat(measures)
    recorder.metrics(newest | costs | levels(threshold, pixel), trained.rounds)
    record_thresholds(recorder, threshold, pixel)
    record_measures(recorder, measures)
    for part, t in timed.items():
        recorder.scores(t.scores, threshold.value, part)
        for name, figure in figures.of_part(t.scores, threshold.value, part, measures[part]).items():
            recorder.figure(figure, f"figures/{part}_{name}.png")
    _draw_galleries(recorder, timed["test"].scores, threshold.value, evaluator.cache)
    origin = (fingerprint, normal_train_digest(evaluator.index, split.train))
    model = _log_detector(job, origin, recorder, evaluator.method, (threshold, pixel), val)
    recorder.tags(
        {"model": model, "selected_round": str(trained.selected_round), "rounds": str(trained.rounds), **_undefined(measures)}
    )
    named = {f"{part}/{name}": estimate for part, found in measures.items() for name, estimate in found.overall.items()}
    return {
        "metrics": {name: estimate.value for name, estimate in named.items()},
        "intervals": {name: [estimate.low, estimate.high] for name, estimate in named.items()},
        "reasons": {name: estimate.reason for name, estimate in named.items() if estimate.reason},
        "threshold": {**threshold.to_dict(), "meaning": describe(threshold)},
        "pixel_threshold": None if pixel is None else {**pixel.to_dict(), "meaning": describe_pixels(pixel)},
        "images_per_s": None if math.isnan(trained.images_per_s) else trained.images_per_s,
        "ms_per_image": timed["test"].ms_per_image,
        "selected_round": trained.selected_round,
        "model": model,
        "conclude_seconds": time.perf_counter() - begin,
    }


def choose_threshold(job: JobConfig, val: ImageScores) -> Threshold:
    """The job's threshold for images."""
    asked = job.threshold
    return choose(str(asked.policy), val.labels, val.score, value=asked.value, confidence=asked.confidence, strict=asked.strict)


def choose_pixel_threshold(job: JobConfig, val: ImageScores) -> PixelThreshold | None:
    """The job's threshold for pixels; None for methods that give no maps."""
    if val.anomaly_maps is None:
        return None
    asked = job.pixel_threshold
    seen = val.masks is not None and bool(val.masks.any())
    policy, value = (asked.policy, asked.value) if asked.policy else default_pixel_policy(seen)
    return choose_pixels(policy, val.anomaly_maps, val.masks, val.labels, value=value, confidence=job.threshold.confidence)


def measure(scores: ImageScores, threshold: Threshold, pixel: PixelThreshold | None, index: Dataset) -> SplitMetrics:
    """All measures of a part at the thresholds."""
    return evaluate.measure(scores, threshold.value, None if pixel is None else pixel.value, index)


def flat(measures: Mapping[str, SplitMetrics]) -> dict[str, float | None]:
    """Metrics as MLflow holds them: ``test/image_auroc``, with ``test/image_auroc_low`` and ``_high`` for its interval."""
    found: dict[str, float | None] = {}
    for part, of_part in measures.items():
        for name, estimate in of_part.overall.items():
            found[f"{part}/{name}"] = estimate.value
            if part == "test":
                found |= {f"{part}/{name}_low": estimate.low, f"{part}/{name}_high": estimate.high}
    return found


def levels(threshold: Threshold, pixel: PixelThreshold | None) -> dict[str, float | None]:
    """The thresholds as metrics."""
    return {"threshold": threshold.value, "pixel_threshold": None if pixel is None else pixel.value}


def record_thresholds(recorder: RunWriter, threshold: Threshold, pixel: PixelThreshold | None) -> None:
    """Store both thresholds with what they promise."""
    document: dict[str, Any] = {"image": threshold.to_dict(), "pixel": None if pixel is None else pixel.to_dict(), "history": []}
    recorder.document(document, THRESHOLDS_FILE)


def record_measures(recorder: RunWriter, measures: Mapping[str, SplitMetrics]) -> None:
    """Store all measures with their intervals, and the version of their definitions."""
    parts = {part: found.to_dict() for part, found in measures.items()}
    recorder.document({"metrics_version": METRICS_VERSION, "confidence": CONFIDENCE, "parts": parts}, METRICS_FILE)


def _undefined(measures: Mapping[str, SplitMetrics]) -> dict[str, str]:
    missing = sorted(
        f"{part}/{name}" for part, found in measures.items() for name, value in found.values().items() if value is None
    )
    return {"undefined_metrics": ", ".join(missing)} if missing else {}


def _draw_galleries(recorder: RunWriter, scores: ImageScores, threshold: float, cache: ImageCache) -> None:
    """The pictures of the test part that teach most."""
    from adjobs.reporting import figures

    def image_of(name: str) -> np.ndarray:
        return np.asarray(cache.images[cache.index_of[name]])

    for name, figure in figures.galleries(scores, threshold, "test", image_of).items():
        recorder.figure(figure, f"figures/test_gallery_{name}.png")


def _log_detector(
    job: JobConfig,
    origin: tuple[str, str],
    recorder: RunWriter,
    method: nn.Module,
    thresholds: tuple[Threshold, PixelThreshold | None],
    val: ImageScores,
) -> str:
    """Log the model; returns its URI."""
    good = [] if val.anomaly_maps is None else val.anomaly_maps[val.labels == 0]
    image, pixel = thresholds
    manifest = detector.Manifest(
        method=job.method,
        params=job.params,
        image_size=job.data.image_size,
        threshold=image.to_dict(),
        pixel_threshold=None if pixel is None else pixel.to_dict(),
        data_fingerprint=origin[0],
        normal_train_digest=origin[1],
        map_floor=float(np.median(good)) if len(good) else None,
    )
    with TemporaryDirectory(prefix="adjobs-") as temporary:
        folder = Path(temporary) / "detector"
        detector.save(folder, method, manifest)
        return log_model(recorder.uri, recorder.run_id, folder, job.track.model)
