"""Predictions for a part of a data set, and the measures of them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from adjobs.data.cache import ImageCache
from adjobs.data.index import Index
from adjobs.data.loaders import to_float
from adjobs.metrics import ranking, region
from adjobs.types import Scores

EVAL_BATCH = 16  # large enough to keep a processor busy, small enough for the maps of any method


class Runner(NamedTuple):
    """Where and how precisely networks run: ``autocast`` is None for float32."""

    device: torch.device
    autocast: torch.dtype | None = None


class Timed(NamedTuple):
    """Scores and what they cost."""

    scores: Scores
    ms_per_image: float


@contextmanager
def evaluating(method: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; the mode before is restored."""
    training = method.training
    method.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        method.train(training)


def evaluate(method: nn.Module, cache: ImageCache, index: Index, part: Sequence[str], runner: Runner) -> Timed:
    """Predict every image of ``part`` (sample ids).

    Args:
        method: a method on the runner's device.
        cache: decoded images.
        index: what is known of the samples.
        part: sample ids, all of them labelled.
        runner: device and precision.
    """
    samples = {sample.id: sample for sample in index.samples}
    rows = np.array([cache.row[name] for name in part], dtype=np.int64)
    scores, found, seconds = np.empty(len(part)), [], 0.0
    with evaluating(method):
        for start in range(0, len(rows), EVAL_BATCH):
            begin = time.perf_counter()
            score, map_ = predict(method, cache.images[rows[start : start + EVAL_BATCH]], runner)
            seconds += time.perf_counter() - begin
            scores[start : start + EVAL_BATCH] = score
            if map_ is not None:
                found.append(map_)
    return Timed(
        Scores(
            ids=tuple(part),
            labels=np.array([int(samples[name].label == "anomalous") for name in part], dtype=np.int64),
            scores=scores,
            defects=tuple(samples[name].defect for name in part),
            maps=np.concatenate(found) if found else None,
            masks=_masks(cache, index, part),
        ),
        1000 * seconds / max(1, len(part)),
    )


def predict(method: nn.Module, images: np.ndarray, runner: Runner) -> tuple[np.ndarray, np.ndarray | None]:
    """Scores ``(B,)`` float64 and maps ``(B, H, W)`` float32 or None for ``(B, H, W, 3)`` uint8 images."""
    with torch.autocast(runner.device.type, runner.autocast or torch.bfloat16, enabled=runner.autocast is not None):
        prediction = method.predict(to_float(images, runner.device))  # type: ignore[operator]
    map_ = None if prediction.map is None else prediction.map[:, 0].float().cpu().numpy()
    return prediction.score.double().cpu().numpy(), map_


def _masks(cache: ImageCache, index: Index, part: Sequence[str]) -> np.ndarray | None:
    """Defect pixels ``(N, H, W)`` bool, or None when pixel measures would be about unknown pixels.

    They are known when every anomaly of the part has a mask; normal images have no defect pixels. Blocks and boxes are too
    coarse to measure by.
    """
    wanted = set(part)
    anomalous = {sample.id: sample.mask for sample in index.samples if sample.label == "anomalous" and sample.id in wanted}
    if not anomalous or any(mask is None for mask in anomalous.values()):
        return None
    masks = np.zeros((len(part), *cache.images.shape[1:3]), dtype=bool)
    for i, name in enumerate(part):
        if name in anomalous:
            masks[i] = cache.labels[cache.label_row[name]]
    return masks


def measure_images(scores: Scores) -> dict[str, float | None]:
    """Image measures that need no threshold; None where a class is missing."""
    best = ranking.f1_max(scores.labels, scores.scores)
    return {
        "image_auroc": ranking.auroc(scores.labels, scores.scores),
        "image_ap": ranking.average_precision(scores.labels, scores.scores),
        "image_f1max": None if best is None else best[0],
    }


def measure(scores: Scores, threshold: float) -> dict[str, float | None]:
    """All measures of a part at a threshold: an image is called anomalous when its score is at least that.

    Pixel measures are None when there is no map, no anomaly, or an anomaly without a mask.
    """
    decisions = scores.scores >= threshold
    measures = measure_images(scores) | {
        "image_f1": ranking.f1(scores.labels, decisions),
        "image_accuracy": ranking.accuracy(scores.labels, decisions),
        "pixel_auroc": None,
        "pixel_ap": None,
        "au_pro": None,
    }
    if scores.maps is not None and scores.masks is not None:
        pixels = ranking.pixel_ranking(scores.maps, scores.masks)
        measures |= {
            "pixel_auroc": pixels.auroc,
            "pixel_ap": pixels.ap,
            "au_pro": region.au_pro(scores.maps, scores.masks),
        }
    return measures
