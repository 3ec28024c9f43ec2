"""Another threshold for a finished run: chosen on its validation part, logged beside the old one, the weights unchanged."""

from __future__ import annotations

import getpass
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple

import numpy as np

from adjobs import methods
from adjobs.config.job import PixelThresholdSection
from adjobs.config.settings import Settings
from adjobs.data.cache.images import open_cache
from adjobs.errors import AdjobsError, DataError, JobError, TrackingError
from adjobs.evaluation import evaluate
from adjobs.evaluation.evaluate import SplitMetrics
from adjobs.inference import detector
from adjobs.jobs.finalize import CachedEvaluator, flat
from adjobs.jobs.prepare import prepare_data
from adjobs.metrics.pixel_threshold import PixelThreshold, choose_pixels, describe_pixels
from adjobs.metrics.threshold import Threshold, choose, describe
from adjobs.reporting import figures
from adjobs.tracking import logged_model
from adjobs.tracking import run as tracking
from adjobs.tracking.client import mlflow_errors
from adjobs.tracking.run import METRICS_FILE, THRESHOLDS_FILE, RunWriter
from adjobs.types import ImageScores

LabelDetail = Literal["image", "pixel"]
SPLITS = ("val", "test")
DEPENDENT: Mapping[LabelDetail, Sequence[str]] = {
    "image": ("image_precision", "image_recall", "image_specificity", "image_f1", "image_accuracy"),
    "pixel": ("pixel_precision", "pixel_recall", "pixel_f1"),
}
"""Measures that change with the threshold."""


class Wanted(NamedTuple):
    """What to choose: a policy of :mod:`adjobs.metrics.policies` and its value, the bound's confidence, whether to keep to it."""

    policy: str
    value: float | None = None
    confidence: float = 0.95
    strict: bool = False


class _Chosen(NamedTuple):
    """A new threshold, what it means in words, and the predictions by part that it was chosen and is measured on."""

    threshold: Threshold | PixelThreshold
    meaning: str
    scores: Mapping[str, ImageScores]


@dataclass(frozen=True)
class _Run:
    """A finished run, open to be written to.

    Attributes:
        stored: the job and the split.
        recorder: writes into it.
        folder: its detector, a copy of this process alone.
        manifest: of the detector: the thresholds that hold now.
        measures: the document of its measures.
        history: the changes of thresholds before this one.
    """

    stored: tracking.StoredRun
    recorder: RunWriter
    folder: Path
    manifest: detector.Manifest
    measures: dict[str, Any]
    history: list[dict[str, Any]]


def recalibrate(
    run_id: str, settings: Settings, wanted: Wanted, *, level: LabelDetail = "image", register: bool = False
) -> dict[str, Any]:
    """Choose a threshold of a finished run anew, and log a model that decides by it.

    For images the stored validation scores are enough. For pixels the model is run on the validation and test images, which
    must be the same as in training.

    Args:
        run_id: a finished run.
        settings: where MLflow and the caches are.
        wanted: the policy.
        level: which threshold.
        register: whether the job's registered model gets a new version.

    Returns:
        ``run_id``, ``level``, ``old`` and ``new`` threshold with their ``meaning``, the measures of ``test`` that depend on it
        with their values ``before`` and ``after``, the ``model``, and the name under which it was ``registered`` or None.

    Raises:
        TrackingError: no such run, or not one that finished with a model.
        JobError: the policy is impossible on its validation part, or there is nothing to register.
        DataError: the data are not those that it was trained on.
    """
    with _open(run_id, settings) as run:
        registered = _registered(run) if register else None
        chosen = _choose_pixels(run, settings, wanted) if level == "pixel" else _choose_images(run, wanted)
        old, new = _thresholds(run.manifest)[level], chosen.threshold.to_dict()
        manifest = replace(run.manifest, threshold=new) if level == "image" else replace(run.manifest, pixel_threshold=new)
        detector.write_manifest(run.folder, manifest)
        # The upload first, since it fails most easily; if this process ends after it, the same command sets all right.
        model = logged_model.log_model(settings.tracking_uri, run.recorder.run_id, run.folder, registered)
        test = _record_measures(run, level, chosen.scores, manifest)
        _record_threshold(run, level, manifest, old, model)
    return {
        "run_id": run.recorder.run_id,
        "level": level,
        "old": None if old is None else {**old, "meaning": _meaning(level, old)},
        "new": {**new, "meaning": chosen.meaning},
        "test": test,
        "model": model,
        "registered": registered,
    }


@contextmanager
def _open(run_id: str, settings: Settings) -> Iterator[_Run]:
    """A finished run with a copy of its detector; refused in one line if it has none."""
    run_id = run_id.removeprefix("runs:/").strip("/")
    stored = tracking.stored(settings.tracking_uri, run_id)
    if stored.status != "FINISHED":
        raise TrackingError(
            f"run {run_id}: is {stored.status}, needed is a finished one; finish it with 'adjobs train --resume {run_id}'"
        )
    recorder = RunWriter(settings.tracking_uri, run_id)
    with TemporaryDirectory(prefix="adjobs-") as folder:
        copy = logged_model.download(settings.tracking_uri, stored.tags.get("model") or run_id, Path(folder))
        yield _Run(
            stored=stored,
            recorder=recorder,
            folder=copy,
            manifest=detector.read_manifest(copy),
            measures=_document(recorder, METRICS_FILE),
            history=_document(recorder, THRESHOLDS_FILE).get("history", []),
        )


def _document(recorder: RunWriter, name: str) -> dict[str, Any]:
    """A JSON artifact of the run."""
    try:
        return dict(json.loads(tracking.read_text(recorder.client, recorder.uri, recorder.run_id, name)))
    except (OSError, ValueError, AdjobsError) as error:
        raise TrackingError(f"run {recorder.run_id}: has no readable {name}; train it anew with this version") from error


def _registered(run: _Run) -> str:
    name = run.stored.job.track.model
    if name is None:
        raise JobError(
            f"--register: the job of run {run.recorder.run_id} names no registered model (track.model); leave --register out"
        )
    return name


def _choose_images(run: _Run, wanted: Wanted) -> _Chosen:
    scores = {part: _stored_scores(run.recorder, part) for part in SPLITS}
    val = scores["val"]
    found = choose(wanted.policy, val.labels, val.score, value=wanted.value, confidence=wanted.confidence, strict=wanted.strict)
    return _Chosen(found, describe(found), scores)


def _stored_scores(recorder: RunWriter, part: str) -> ImageScores:
    """The scores that the training stored, without maps and masks."""
    table = _document(recorder, f"scores/{part}.json")
    images, labels, defects, scores, _ = zip(*table["data"], strict=True)
    return ImageScores(images, np.array(labels, dtype=np.int64), np.array(scores, dtype=np.float64), defects, None, None)


def _choose_pixels(run: _Run, settings: Settings, wanted: Wanted) -> _Chosen:
    stored, run_id = run.stored, run.recorder.run_id
    if wanted.strict:
        raise JobError("--strict: pixels have no bound to keep to; leave --strict or --pixel out")
    if not methods.gives_map(stored.job.method, stored.job.params):
        raise JobError(
            f"--pixel: {stored.job.method} gives no maps{methods.map_param_hint(stored.job.method)}; leave --pixel out"
        )
    # As a part of the job, what is wanted is checked against the data before the model is run.
    policy: Any = wanted.policy
    asked = PixelThresholdSection.model_construct(policy=policy, value=wanted.value)
    data = prepare_data(stored.job.model_copy(update={"pixel_threshold": asked}), settings, split=stored.split)
    if data.fingerprint != stored.fingerprint:
        raise DataError(
            f"data '{stored.job.data.uri}': fingerprint {data.fingerprint[:16]}, run {run_id} was trained on "
            f"{stored.fingerprint[:16]}; bring back the data as they were"
        )
    loaded = detector.Detector.load(run.folder)
    cache = open_cache(data.samples, data.fingerprint, stored.job.data.image_size, settings.cache)
    seen = CachedEvaluator(loaded.method, cache, data.samples, loaded.runner)
    scores = {part: seen.evaluate(getattr(stored.split, part)).scores for part in SPLITS}
    maps, masks, labels = scores["val"].anomaly_maps, scores["val"].masks, scores["val"].labels
    found = choose_pixels(wanted.policy, np.asarray(maps), masks, labels, value=wanted.value, confidence=wanted.confidence)
    return _Chosen(found, describe_pixels(found), scores)


def _record_measures(
    run: _Run, level: LabelDetail, scores: Mapping[str, ImageScores], manifest: detector.Manifest
) -> dict[str, dict[str, float | None]]:
    """Log and store what depends on the threshold, in place of what was; returns the values of test before and after."""
    image = float(manifest.threshold["value"])
    pixel = None if manifest.pixel_threshold is None else float(manifest.pixel_threshold["value"])
    whole = {part: evaluate.measure(of_part, image, pixel) for part, of_part in scores.items()}
    fresh = {part: _only(measures, DEPENDENT[level]) for part, measures in whole.items()}
    parts = run.measures["parts"]
    before = {name: estimate["value"] for name, estimate in parts["test"]["overall"].items()}
    for part, measures in fresh.items():
        for group, found in measures.to_dict()["by_defect"].items():
            parts[part]["by_defect"].setdefault(group, {}).update(found)
        parts[part]["overall"].update(measures.to_dict()["overall"])
    run.recorder.document(run.measures, METRICS_FILE)
    run.recorder.metrics(_loggable(run.recorder, flat(fresh)), _step(run))
    if level == "image":
        _record_decisions(run.recorder, scores, image, whole)
    after = fresh["test"].values()
    return {name: {"before": before.get(name), "after": after[name]} for name in DEPENDENT[level] if name in after}


def _record_decisions(
    recorder: RunWriter, scores: Mapping[str, ImageScores], threshold: float, measures: Mapping[str, SplitMetrics]
) -> None:
    """Tables and figures of the scores with the new threshold."""
    for part, of_part in scores.items():
        recorder.scores(of_part, threshold, part)
        for name, figure in figures.of_part(of_part, threshold, part, measures[part]).items():
            recorder.figure(figure, f"figures/{part}_{name}.png")


def _record_threshold(run: _Run, level: LabelDetail, manifest: detector.Manifest, old: dict[str, Any] | None, model: str) -> None:
    now, held = datetime.now(UTC).isoformat(timespec="seconds"), _thresholds(manifest)
    new = held[level] or {}
    change = {"time": now, "by": _user(), "level": level, "old": old, "new": new}
    run.recorder.document({**held, "history": [*run.history, change]}, THRESHOLDS_FILE)
    run.recorder.metrics({"threshold" if level == "image" else "pixel_threshold": new["value"]}, _step(run))
    missing = [
        f"{part}/{name}"
        for part, found in run.measures["parts"].items()
        for name, estimate in found["overall"].items()
        if estimate["value"] is None
    ]
    run.recorder.tags({"model": model, "recalibrated": now, "undefined_metrics": ", ".join(sorted(missing))})


def _thresholds(manifest: detector.Manifest) -> dict[str, dict[str, Any] | None]:
    return {"image": manifest.threshold, "pixel": manifest.pixel_threshold}


def _only(measures: SplitMetrics, names: Sequence[str]) -> SplitMetrics:
    def pick(found: Mapping[str, Any]) -> dict[str, Any]:
        return {name: found[name] for name in names if name in found}

    return SplitMetrics(
        pick(measures.overall), {group: pick(found) for group, found in measures.by_defect.items()}, measures.counts
    )


def _loggable(recorder: RunWriter, values: Mapping[str, float | None]) -> dict[str, float | None]:
    """NaN for what was defined and no longer is: MLflow cannot take a metric back."""
    with mlflow_errors(recorder.uri):
        logged = recorder.client.get_run(recorder.run_id).data.metrics
    return {name: math.nan if value is None and name in logged else value for name, value in values.items()}


def _step(run: _Run) -> int:
    """The round of the final measures, the last: MLflow shows the newest value of the highest round."""
    return int(run.stored.tags.get("rounds", 0))


def _meaning(level: LabelDetail, threshold: dict[str, Any]) -> str:
    return describe(Threshold(**threshold)) if level == "image" else describe_pixels(PixelThreshold(**threshold))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user number without a name
        return str(os.getuid())
