"""Predictions for a part of a data set, and the measures of them."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from adjobs.data.batches import to_float
from adjobs.data.cache.images import ImageCache
from adjobs.data.dataset import Dataset, Sample
from adjobs.data.formats.loco import read_defects
from adjobs.data.images import image_size
from adjobs.data.labels.masks import Layers
from adjobs.metrics import ranking, spro, summary
from adjobs.metrics.binned import DEFAULT_LIMIT
from adjobs.metrics.intervals import Estimate
from adjobs.metrics.pixel import pixel_measures
from adjobs.types import ImageScores

NO_INTERVAL = "no interval: a mean over kinds of anomalies, or thresholds refined over all images"
SPRO_LIMIT = 0.05  # MVTec LOCO reports up to this false-positive rate
EVAL_BATCH = 16  # large enough to keep a processor busy, small enough for the maps of any method


class DeviceConfig(NamedTuple):
    """Where and how precisely networks run: ``autocast`` is None for float32."""

    device: torch.device
    autocast: torch.dtype | None = None


class TimedScores(NamedTuple):
    """Scores and what they cost."""

    scores: ImageScores
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


def evaluate(method: nn.Module, cache: ImageCache, index: Dataset, part: Sequence[str], runner: DeviceConfig) -> TimedScores:
    """Predict every image of ``part`` (sample ids).

    Args:
        method: a method on the runner's device.
        cache: decoded images.
        index: what is known of the samples.
        part: sample ids, all of them labelled.
        runner: device and precision.
    """
    samples = {sample.id: sample for sample in index.samples}
    rows = np.array([cache.index_of[name] for name in part], dtype=np.int64)
    scores, maps, seconds = np.empty(len(part)), None, 0.0
    extra_scores: dict[str, np.ndarray] = {}
    with evaluating(method):
        for start in range(0, len(rows), EVAL_BATCH):
            here = slice(start, start + EVAL_BATCH)
            begin = time.perf_counter()
            found = predict(method, cache.images[rows[here]], runner)
            seconds += time.perf_counter() - begin
            scores[here] = found.scores
            for name, values in found.extra_scores.items():
                extra_scores.setdefault(name, np.empty(len(part)))[here] = values
            if found.maps is not None:
                # All at once: to join batches at the end would take twice the memory.
                maps = np.empty((len(part), *found.maps.shape[1:]), dtype=found.maps.dtype) if maps is None else maps
                maps[here] = found.maps
    return TimedScores(
        ImageScores(
            ids=tuple(part),
            labels=np.array([int(samples[name].label == "anomalous") for name in part], dtype=np.int64),
            score=scores,
            # A manifest may call good images "none": that is no type of defect.
            defects=tuple(samples[name].defect if samples[name].label == "anomalous" else "" for name in part),
            anomaly_maps=maps,
            masks=_masks(cache, index, part),
            extra_scores=extra_scores,
        ),
        1000 * seconds / max(1, len(part)),
    )


class PredictionArrays(NamedTuple):
    """A method's answers as arrays: scores ``(B,)`` float64, maps ``(B, H, W)`` float32 or None, further scores by name."""

    scores: np.ndarray
    maps: np.ndarray | None
    extra_scores: dict[str, np.ndarray]


def predict(method: nn.Module, images: np.ndarray, runner: DeviceConfig) -> PredictionArrays:
    """Ask a method about ``(B, H, W, 3)`` uint8 images."""
    with torch.autocast(runner.device.type, runner.autocast or torch.bfloat16, enabled=runner.autocast is not None):
        prediction = method.predict(to_float(images, runner.device))  # type: ignore[operator]
    map_ = None if prediction.anomaly_map is None else prediction.anomaly_map[:, 0].float().cpu().numpy()
    extra_scores = {name: score.double().cpu().numpy() for name, score in (prediction.extra_scores or {}).items()}
    return PredictionArrays(prediction.score.double().cpu().numpy(), map_, extra_scores)


def _masks(cache: ImageCache, index: Dataset, part: Sequence[str]) -> np.ndarray | None:
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
            masks[i] = cache.labels[cache.label_index_of[name]]
    return masks


def measure_images(scores: ImageScores, native_threshold: float | None = None) -> dict[str, float | None]:
    """Image measures that need no chosen threshold, of further scores ``image_auroc_NAME``; None where a class is missing.

    Args:
        scores: of a part.
        own_threshold: where the method itself decides, see :class:`adjobs.methods.contract.Spec`; adds the
            mean F1 of the two classes there, such as ``image_macro_f1_at_0.5``. F1 of anomalies alone is no measure to choose by:
            where they are many, as in validation parts of published protocols, "all anomalous" has a good one.
    """
    best = ranking.f1_max(scores.labels, scores.score)
    found = {
        "image_auroc": ranking.auroc(scores.labels, scores.score),
        "image_ap": ranking.average_precision(scores.labels, scores.score),
        "image_f1max": None if best is None else best[0],
    }
    if native_threshold is not None:
        found[f"image_macro_f1_at_{native_threshold:g}"] = ranking.macro_f1(scores.labels, scores.score >= native_threshold)
    return found | {f"image_auroc_{name}": ranking.auroc(scores.labels, other) for name, other in scores.extra_scores.items()}


def measure_pixels(scores: ImageScores) -> dict[str, float | None]:
    """Pixel measures without their intervals; empty where there are no maps or no masks to measure by."""
    if scores.anomaly_maps is None or scores.masks is None:
        return {}
    found = pixel_measures(scores.anomaly_maps, scores.masks, limits=(DEFAULT_LIMIT,))
    return {"pixel_auroc": found.auroc, "pixel_ap": found.ap, "au_pro": found.au_pro[DEFAULT_LIMIT]}


@dataclass(frozen=True)
class SplitMetrics:
    """All measures of one part, each with its 95 % interval.

    Attributes:
        overall: by name, such as ``image_auroc``.
        by_defect: the same for each defect type beside all good images.
        counts: images of each defect type.
    """

    overall: dict[str, Estimate]
    by_defect: dict[str, dict[str, Estimate]]
    counts: dict[str, int]

    def values(self) -> dict[str, float | None]:
        """The overall values without their intervals."""
        return {name: estimate.value for name, estimate in self.overall.items()}

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "overall": {name: estimate._asdict() for name, estimate in self.overall.items()},
            "by_defect": {
                defect: {"count": self.counts[defect], **{name: estimate._asdict() for name, estimate in measures.items()}}
                for defect, measures in self.by_defect.items()
            },
        }


def measure(scores: ImageScores, threshold: float, pixel_threshold: float | None, index: Dataset | None = None) -> SplitMetrics:
    """All measures of a part.

    Args:
        scores: its predictions.
        threshold: an image is called anomalous when its score is at least that.
        pixel_threshold: the same for pixels; None leaves out what depends on it.
        index: the data set; where its masks say when a defect counts as found in full (MVTec LOCO), sPRO is measured too.
    """
    overall = summary.image_measures(scores.labels, scores.score, threshold)
    by_defect = summary.defect_measures(scores.labels, scores.score, scores.defects, threshold)
    for name, other in scores.extra_scores.items():
        found = summary.image_measures(scores.labels, other, None)
        overall |= {f"{measure}_{name}": found[measure] for measure in ("image_auroc", "image_ap")}
    if scores.anomaly_maps is None or scores.masks is None:
        missing = "the method gives no map" if scores.anomaly_maps is None else "no anomalous image, or one without a mask"
        overall |= {name: Estimate(None, reason=missing) for name in ("pixel_auroc", "pixel_ap", "au_pro")}
    else:
        overall |= summary.pixel_summary(scores.anomaly_maps, scores.masks, pixel_threshold, defects=scores.defects)
        for defect, measures in summary.pixel_by_defect(scores.anomaly_maps, scores.masks, scores.defects).items():
            by_defect[defect] |= measures
    if index is not None and scores.anomaly_maps is not None:
        overall |= saturated(scores, index)
    names = [name or summary.UNTYPED for name, label in zip(scores.defects, scores.labels, strict=True) if label]
    return SplitMetrics(overall, by_defect, Counter(names))


def saturated(scores: ImageScores, index: Dataset) -> dict[str, Estimate]:
    """Area under the sPRO curve up to 0.05 at the images' own size (MVTec LOCO; Bergmann et al., IJCV 2022).

    ``au_spro`` is the mean over the two kinds of anomalies, each beside all good images, as its authors report; so is
    ``image_auroc_mean``. In the names of the kinds, what MLflow takes for no part of a name is ``_``. Empty for data sets whose
    masks do not say when a defect counts as found.
    """
    samples = {sample.id: sample for sample in index.samples}
    masks = [samples[name].mask for name, label in zip(scores.ids, scores.labels, strict=True) if label]
    if not masks or not all(isinstance(mask, Layers) and mask.kinds for mask in masks):
        return {}

    def area(kind: str | None) -> float | None:
        return spro.stream_au_spro(lambda: _native(scores, samples, kind), SPRO_LIMIT)

    kinds = sorted({defect for defect, label in zip(scores.defects, scores.labels, strict=True) if label})
    areas = {kind: area(kind) for kind in kinds}
    ranks = [ranking.auroc(scores.labels[rows], scores.score[rows]) for rows in (_rows(scores, kind) for kind in kinds)]
    values = {
        "au_spro": _mean(list(areas.values())),
        **{f"au_spro_{_word(kind)}": value for kind, value in areas.items()},
        "au_spro_pooled": area(None),
        "image_auroc_mean": _mean(ranks),
    }
    return {name: Estimate(value, reason=NO_INTERVAL) for name, value in values.items()}


def _word(kind: str) -> str:
    """A kind of anomaly as a part of a metric's name: a manifest's text may hold signs that MLflow refuses, and be any length."""
    return re.sub(r"[^\w.\- ]", "_", kind)[:200] or summary.UNTYPED


def _rows(scores: ImageScores, kind: str | None) -> np.ndarray:
    """Rows of the good images and of the anomalies of one kind; of all kinds if None."""
    chosen = [not label or kind in (None, defect) for label, defect in zip(scores.labels, scores.defects, strict=True)]
    return np.flatnonzero(chosen)


def _native(
    scores: ImageScores, samples: Mapping[str, Sample], kind: str | None
) -> Iterator[tuple[np.ndarray, list[spro.Defect]]]:
    """Maps at their images' own sizes, one at a time, with the defects of each."""
    assert scores.anomaly_maps is not None
    for row in _rows(scores, kind):
        sample = samples[scores.ids[row]]
        defects = read_defects(sample.mask) if isinstance(sample.mask, Layers) else []
        width, height = image_size(sample.image)
        small = torch.from_numpy(scores.anomaly_maps[row])[None, None]
        large = torch.nn.functional.interpolate(small, (height, width), mode="bilinear", align_corners=False)[0, 0]
        yield large.numpy(), [spro.Defect(pixels, saturation) for pixels, saturation in defects]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(values) if len(known) == len(values) else None
