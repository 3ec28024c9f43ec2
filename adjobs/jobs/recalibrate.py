"""Another threshold for a finished run: chosen on its validation split, logged beside the old one, the weights unchanged."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from adjobs import methods
from adjobs.config.settings import Settings
from adjobs.data.cache.images import open_cache
from adjobs.errors import JobError, TrackingError
from adjobs.evaluation.evaluate import CachedEvaluator
from adjobs.evaluation.result import SplitMetrics, compute_split_metrics
from adjobs.evaluation.thresholds import Thresholds
from adjobs.inference.manifest import Manifest, read_manifest, write_manifest
from adjobs.inference.torch_detector import TorchDetector
from adjobs.jobs.data import ensure_same_data, prepare_data
from adjobs.jobs.describe import describe
from adjobs.jobs.finalize import test_columns
from adjobs.jobs.result import ThresholdChange, ThresholdResult
from adjobs.metrics.pixel_threshold import PixelThreshold, choose_pixel_threshold
from adjobs.metrics.policies import ThresholdPolicy
from adjobs.metrics.threshold import Threshold, choose_threshold
from adjobs.reporting import figures
from adjobs.tracking import logged_model
from adjobs.tracking.layout import METRICS_FILE, THRESHOLDS_FILE, RunRef, StoredRun
from adjobs.tracking.reader import RunReader
from adjobs.tracking.runs import open_reader, open_writer
from adjobs.tracking.source import user_name
from adjobs.tracking.writer import RunWriter
from adjobs.types import ImageScores, JobStatus

ThresholdLevel = Literal["image", "pixel"]
SPLITS = ("val", "test")
DEPENDENT: Mapping[ThresholdLevel, Sequence[str]] = {
    "image": ("image_precision", "image_recall", "image_specificity", "image_f1", "image_accuracy"),
    "pixel": ("pixel_precision", "pixel_recall", "pixel_f1"),
}
"""Metrics that change with the threshold."""


@dataclass(frozen=True)
class _Choice:
    """A new threshold, and the predictions by split that it was chosen and is evaluated on."""

    threshold: Threshold | PixelThreshold
    scores: Mapping[str, ImageScores]


@dataclass(frozen=True)
class _FinishedRun:
    """A finished run, open to be written to.

    Attributes:
        stored: the job and the split.
        reader: reads it.
        writer: writes into it.
        folder: its detector, a private copy.
        manifest: of the detector: the thresholds that hold now.
        metrics: the document of its metrics.
        history: the changes of thresholds before this one.
    """

    stored: StoredRun
    reader: RunReader
    writer: RunWriter
    folder: Path
    manifest: Manifest
    metrics: dict[str, Any]
    history: list[dict[str, Any]]


def recalibrate(
    run: RunRef, settings: Settings, policy: ThresholdPolicy, *, level: ThresholdLevel = "image", register: bool = False
) -> ThresholdResult:
    """Choose a threshold of a finished run again, and log a model that decides by it.

    For images the stored validation scores are enough. For pixels the model is run on the validation and test images, which
    must be the same as in training.

    Args:
        run: a finished run.
        settings: where MLflow and the caches are.
        policy: how to choose.
        level: which threshold.
        register: whether the job's registered model gets a new version.

    Raises:
        TrackingError: no such run, or it did not finish with a model.
        JobError: the policy is impossible on its validation split, or there is nothing to register.
        DataError: the data are not those that it was trained on.
    """
    with _opened(run, settings) as finished:
        registered = _registered_name(finished) if register else None
        choice = _choose_for_pixels(finished, settings, policy) if level == "pixel" else _choose_for_images(finished, policy)
        old, new = _thresholds(finished.manifest)[level], choice.threshold.to_dict()
        changed = {"threshold" if level == "image" else "pixel_threshold": choice.threshold}
        manifest = finished.manifest.model_copy(update=changed)
        write_manifest(finished.folder, manifest)
        # The upload first, since it fails most easily; if this process ends after it, the same command repairs everything.
        model = finished.writer.log_model(finished.folder, registered)
        test = _update_metrics(finished, level, choice.scores, manifest)
        _update_thresholds(finished, level, manifest, old, model)
        describe(finished.writer, registered)
    return ThresholdResult(
        run_id=run.run_id,
        level=level,
        old=None if old is None else {**old, "meaning": _meaning(level, old)},
        new={**new, "meaning": choice.threshold.describe()},
        test=test,
        model=model,
        registered=registered,
    )


@contextmanager
def _opened(run: RunRef, settings: Settings) -> Iterator[_FinishedRun]:
    """A finished run with a copy of its detector; refused in one line if it has none."""
    reader = open_reader(run)
    stored = reader.stored_run()
    if stored.status != JobStatus.FINISHED:
        raise TrackingError(
            f"run {run.run_id}: is {stored.status}, must be FINISHED; finish it with 'adjobs train --resume {run.run_id}'"
        )
    with TemporaryDirectory(prefix="adjobs-") as folder:
        copy = logged_model.copy_detector(settings.tracking_uri, stored.tags.get("model") or run.run_id, Path(folder))
        yield _FinishedRun(
            stored=stored,
            reader=reader,
            writer=open_writer(run),
            folder=copy,
            manifest=read_manifest(copy),
            metrics=reader.read_json(METRICS_FILE),
            history=reader.read_json(THRESHOLDS_FILE).get("history", []),
        )


def _registered_name(run: _FinishedRun) -> str:
    track = run.stored.job.track
    if track is None or track.model is None:
        raise JobError(
            f"--register: the job of run {run.reader.ref.run_id} names no registered model (track.model); remove --register"
        )
    return track.model


def _choose_for_images(run: _FinishedRun, policy: ThresholdPolicy) -> _Choice:
    scores = {split: run.reader.scores(split) for split in SPLITS}
    return _Choice(choose_threshold(policy, scores["val"].labels, scores["val"].score), scores)


def _choose_for_pixels(run: _FinishedRun, settings: Settings, policy: ThresholdPolicy) -> _Choice:
    stored, job = run.stored, run.stored.job
    if policy.strict:
        raise JobError("--strict: the threshold for pixels has no bound to keep to; remove --strict or --pixel")
    if not methods.gives_map(job.method, job.params):
        raise JobError(f"--pixel: {job.method} gives no anomaly maps{methods.map_param_hint(job.method)}; remove --pixel")
    # As a part of the job, so that the policy is checked against the data before the model is run.
    section = job.pixel_threshold.model_copy(update={"policy": policy.name, "value": policy.value})
    data = prepare_data(job.model_copy(update={"pixel_threshold": section}), settings, split=stored.split)
    origin = f"run {run.reader.ref.run_id} was trained on"
    ensure_same_data(job.data.uri, data.fingerprint, stored.fingerprint, origin, "restore the data")
    loaded = TorchDetector.load(run.folder)
    cache = open_cache(data.dataset, data.fingerprint, job.data.image_size, settings.cache, reading=loaded.manifest.image_reading)
    evaluator = CachedEvaluator(loaded.method, cache, data.dataset, loaded.device_config)
    scores = {split: evaluator.evaluate(getattr(stored.split, split)).scores for split in SPLITS}
    val = scores["val"]
    assert val.anomaly_maps is not None  # the method gives anomaly maps
    return _Choice(choose_pixel_threshold(policy, val.anomaly_maps, val.complete_masks, val.labels), scores)


def _update_metrics(
    run: _FinishedRun, level: ThresholdLevel, scores: Mapping[str, ImageScores], manifest: Manifest
) -> dict[str, ThresholdChange]:
    """Log and store what depends on the threshold; returns the values of test before and after."""
    image = manifest.threshold.value
    pixel = None if manifest.pixel_threshold is None else manifest.pixel_threshold.value
    computed = {split: compute_split_metrics(of_split, image, pixel) for split, of_split in scores.items()}
    dependent = {split: _only(metrics, DEPENDENT[level]) for split, metrics in computed.items()}
    document = run.metrics["splits"]
    before = {name: estimate["value"] for name, estimate in document["test"]["overall"].items()}
    for split, metrics in dependent.items():
        for defect, estimates in metrics.to_dict()["by_defect"].items():
            document[split]["by_defect"].setdefault(defect, {}).update(estimates)
        document[split]["overall"].update(metrics.to_dict()["overall"])
    run.writer.log_json(run.metrics, METRICS_FILE)
    run.writer.log_metrics(test_columns(dependent["test"]), _last_checkpoint(run))
    if level == "image":
        _update_decisions(run.writer, scores, image, computed)
    after = dependent["test"].values()
    return {name: ThresholdChange(before.get(name), after[name]) for name in DEPENDENT[level] if name in after}


def _update_decisions(
    writer: RunWriter, scores: Mapping[str, ImageScores], threshold: float, metrics: Mapping[str, SplitMetrics]
) -> None:
    """Tables and figures of the scores with the new threshold."""
    for split, of_split in scores.items():
        writer.log_scores(of_split, threshold, split)
        for name, figure in figures.of_split(of_split, threshold, split, metrics[split]).items():
            writer.log_figure(figure, f"figures/{split}_{name}.png")


def _update_thresholds(
    run: _FinishedRun, level: ThresholdLevel, manifest: Manifest, old: dict[str, Any] | None, model: str
) -> None:
    now, thresholds = datetime.now(UTC).isoformat(timespec="seconds"), _thresholds(manifest)
    new = thresholds[level] or {}
    change = {"time": now, "by": user_name(os.environ), "level": level, "old": old, "new": new}
    run.writer.log_json({**thresholds, "history": [*run.history, change]}, THRESHOLDS_FILE)
    if level == "image":
        run.writer.log_metrics({"threshold": new["value"]}, _last_checkpoint(run))
    undefined = [
        f"{split}/{name}"
        for split, metrics in run.metrics["splits"].items()
        for name, estimate in metrics["overall"].items()
        if estimate["value"] is None
    ]
    run.writer.set_tags({"model": model, "recalibrated": now, "undefined_metrics": ", ".join(sorted(undefined))})


def _thresholds(manifest: Manifest) -> dict[str, dict[str, Any] | None]:
    return Thresholds(manifest.threshold, manifest.pixel_threshold).to_dict()


def _only(metrics: SplitMetrics, names: Sequence[str]) -> SplitMetrics:
    def select(estimates: Mapping[str, Any]) -> dict[str, Any]:
        return {name: estimates[name] for name in names if name in estimates}

    by_defect = {defect: select(estimates) for defect, estimates in metrics.by_defect.items()}
    return SplitMetrics(select(metrics.overall), by_defect, metrics.counts)


def _last_checkpoint(run: _FinishedRun) -> int:
    """The step of the final metrics: MLflow shows the latest value of the highest step."""
    return int(run.stored.tags.get("checkpoints", 0))


def _meaning(level: ThresholdLevel, threshold: dict[str, Any]) -> str:
    return (Threshold(**threshold) if level == "image" else PixelThreshold(**threshold)).describe()
