"""What one worker does: data, method, training, and on rank 0 evaluation and everything that the run keeps."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import nn

from adjobs import detector, evaluate, methods
from adjobs.data.cache import ImageCache, open_cache
from adjobs.data.index import Index, fingerprint, open_index
from adjobs.data.loaders import TrainingData
from adjobs.data.splits import Split
from adjobs.errors import ClusterError
from adjobs.evaluate import Runner, Timed
from adjobs.job import JobConfig
from adjobs.metrics import threshold as thresholds
from adjobs.tracking import figures
from adjobs.tracking.package import log_model
from adjobs.tracking.run import Recorder
from adjobs.training.checkpoint import Checkpoints
from adjobs.training.loop import Round, Tick, Trained, Validation, Worker, choose_runner, fit
from adjobs.types import Scores


@dataclass(frozen=True)
class Task:
    """All that a worker is told.

    Attributes:
        job: the resolved job.
        split: which sample is in which part.
        fingerprint: of the data that the launcher saw; the worker must see the same.
        cache: folder of fetched and decoded data on the worker's node.
        tracking_uri: MLflow.
        run_id: the open run.
        excluded: samples left out for their problems.
    """

    job: JobConfig
    split: Split
    fingerprint: str
    cache: Path
    tracking_uri: str
    run_id: str
    excluded: tuple[str, ...] = ()


class _Listener:
    """Passes ticks on and writes rounds into MLflow."""

    def __init__(self, recorder: Recorder, tell: Callable[[Tick], None]) -> None:
        self._recorder, self._tell = recorder, tell

    def tick(self, tick: Tick) -> None:
        self._tell(tick)

    def round(self, finished: Round) -> None:
        self._recorder.metrics(finished.metrics, finished.number)


def run(
    task: Task, *, device: torch.device, rank: int, world: int, checkpoints: Checkpoints, tell: Callable[[Tick], None]
) -> dict[str, Any]:
    """Do a whole job on this worker.

    Returns:
        On rank 0 the summary that ``adjobs train`` prints, elsewhere nothing.

    Raises:
        ClusterError: this node sees other data than the launcher.
        DataError: the data lack what the method needs.
    """
    job, spec = task.job, methods.spec(task.job.method)
    index, cache = _open_data(task)
    worker = Worker(choose_runner(job.train.precision, device), rank, world, job.train.seed)
    seed_everything(job.train.seed)
    method = methods.load(job.method).build(job.method_config(), job.train.seed)
    method.to(device).to(memory_format=torch.channels_last)
    recorder = Recorder(task.tracking_uri, task.run_id) if rank == 0 else None

    look = _Look(method, cache, index, Runner(device))  # in float32, as the logged model will decide

    def validate() -> Mapping[str, float | None]:
        return evaluate.measure_images(look.at(task.split.val).scores)

    trained = fit(
        method,
        TrainingData(cache, index, task.split.train, device),
        worker,
        validation=Validation(spec.selection, validate if _has_both(index, task.split.val) else None, job.train.validate_every),
        checkpoints=checkpoints,
        listener=_Listener(recorder, tell) if recorder else _Silent(),
    )
    if not trained.is_last:
        look.forget()
    return {} if recorder is None else _conclude(task, look, trained, recorder)


class _Look:
    """Predictions of the method as it is; the last ones are kept, because the last validation is the final one, too."""

    def __init__(self, method: nn.Module, cache: ImageCache, index: Index, runner: Runner) -> None:
        self.method, self.cache, self._index, self._runner = method, cache, index, runner
        self._kept: Timed | None = None

    def at(self, part: tuple[str, ...]) -> Timed:
        """Predict a part anew, and keep the answer."""
        self._kept = evaluate.evaluate(self.method, self.cache, self._index, part, self._runner)
        return self._kept

    def again(self, part: tuple[str, ...]) -> Timed:
        """The kept predictions if they are of this part, else new ones."""
        return self._kept if self._kept is not None and self._kept.scores.ids == part else self.at(part)

    def forget(self) -> None:
        """The method has changed."""
        self._kept = None


def seed_everything(seed: int) -> None:
    """Seed the global generators for code of others; ours draws from generators that it is given."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


class _Silent:
    def tick(self, tick: Tick) -> None:
        """Only rank 0 speaks."""

    def round(self, finished: Round) -> None:
        """Only rank 0 speaks."""


def _open_data(task: Task) -> tuple[Index, ImageCache]:
    """Fetch, check and decode the data on this node; what is there already is used."""
    data = task.job.data
    index = open_index(data.uri, data.format, cache=task.cache)
    index = Index(index.root, index.format, tuple(s for s in index.samples if s.id not in set(task.excluded)))
    found = fingerprint(index)
    if found != task.fingerprint:
        raise ClusterError(
            f"data '{data.uri}': this worker sees fingerprint {found[:16]}, the job was started with {task.fingerprint[:16]}; "
            "the data changed or the path means another folder on this node: use s3://, or start the job anew"
        )
    return index, open_cache(index, found, data.image_size, task.cache, progress=False)


def _has_both(index: Index, part: tuple[str, ...]) -> bool:
    labels = {sample.label for sample in index.samples if sample.id in set(part)}
    return {"normal", "anomalous"} <= labels


def _conclude(task: Task, look: _Look, trained: Trained, recorder: Recorder) -> dict[str, Any]:
    """Evaluate, choose the threshold on validation, and store figures, scores and the model."""
    begin = time.perf_counter()
    timed = {"val": look.again(task.split.val), "test": look.at(task.split.test)}
    val, test = timed["val"].scores, timed["test"].scores
    policy = task.job.threshold
    threshold = thresholds.choose(str(policy.policy), val.labels, val.scores, value=policy.value, confidence=policy.confidence)
    measures = {
        f"{part}/{name}": value
        for part, t in timed.items()
        for name, value in evaluate.measure(t.scores, threshold.value).items()
    }
    costs = {"test/ms_per_image": timed["test"].ms_per_image, "train/selected_round": float(trained.selected_round)}
    recorder.metrics({**measures, **costs, "threshold": threshold.value}, trained.selected_round)
    recorder.document({threshold.policy: threshold.to_dict()}, "thresholds.json")
    for part, scores in (("val", val), ("test", test)):
        recorder.scores(scores, threshold.value, part)
        _draw(recorder, scores, threshold.value, part)
    _draw_galleries(recorder, test, threshold.value, look.cache)
    model = _log_detector(task, look.method, threshold, val)
    recorder.tags({"model": model, "selected_round": str(trained.selected_round), **_undefined(measures)})
    return {
        "metrics": measures,
        "threshold": {**threshold.to_dict(), "meaning": thresholds.describe(threshold)},
        "images_per_s": None if math.isnan(trained.images_per_s) else trained.images_per_s,
        "ms_per_image": timed["test"].ms_per_image,
        "selected_round": trained.selected_round,
        "model": model,
        "conclude_seconds": time.perf_counter() - begin,
    }


def _undefined(measures: Mapping[str, float | None]) -> dict[str, str]:
    missing = sorted(name for name, value in measures.items() if value is None)
    return {"undefined_metrics": ", ".join(missing)} if missing else {}


def _draw(recorder: Recorder, scores: Scores, threshold: float, part: str) -> None:
    """Curves of one part; those that need a class which the part lacks are left out."""
    drawn = {
        "histogram": figures.histogram(scores, threshold, part),
        "confusion": figures.confusion(scores, threshold, part),
        "roc": figures.roc(scores, part),
        "pr": figures.pr(scores, part),
        "pro": figures.pro(scores, part),
    }
    for name, figure in drawn.items():
        if figure is not None:
            recorder.figure(figure, f"figures/{part}_{name}.png")


def _draw_galleries(recorder: Recorder, scores: Scores, threshold: float, cache: ImageCache) -> None:
    """The pictures of the test part that teach most; nothing for methods without maps."""
    if scores.maps is None:
        return
    scale = (float(scores.maps.min()), float(np.quantile(scores.maps.reshape(len(scores.maps), -1).max(1), 0.98)))
    titles = {"misses": "Worst misses", "false_alarms": "Worst false alarms", "hits": "Clearest hits"}
    for name, rows in figures.pick(scores, threshold).items():
        if not len(rows):
            continue
        cases = [
            figures.Case(
                f"{Path(scores.ids[row]).name}\n{scores.defects[row]} {scores.scores[row]:.4g}",
                np.asarray(cache.images[cache.row[scores.ids[row]]]),
                scores.maps[row],
                None if scores.masks is None else scores.masks[row],
            )
            for row in rows
        ]
        title = f"{titles[name]}, test part, threshold {threshold:.4g}"
        recorder.figure(figures.gallery(cases, title, scale), f"figures/test_gallery_{name}.png")


def _log_detector(task: Task, method: nn.Module, threshold: thresholds.Threshold, val: Scores) -> str:
    """Log the model; returns its URI."""
    job = task.job
    good = [] if val.maps is None else val.maps[val.labels == 0]
    floor = float(np.median(good)) if len(good) else None
    manifest = detector.Manifest(job.method, job.params, job.data.image_size, threshold.to_dict(), task.fingerprint, floor)
    with TemporaryDirectory(prefix="adjobs-") as temporary:
        folder = Path(temporary) / "detector"
        detector.save(folder, method, manifest)
        return log_model(task.tracking_uri, task.run_id, folder, job.track.model)
