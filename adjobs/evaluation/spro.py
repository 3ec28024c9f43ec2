"""sPRO of a split at the images' own sizes, for data sets whose masks say when a defect counts as detected (MVTec LOCO)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch

from adjobs.data.dataset import Dataset, Sample
from adjobs.data.formats.loco import read_defects
from adjobs.data.images import image_size
from adjobs.data.labels.masks import Layers
from adjobs.metrics import ranking, spro, summary
from adjobs.metrics.intervals import Estimate
from adjobs.types import ImageScores

NO_INTERVAL = "a mean over kinds of anomalies, or thresholds refined over all images"
SPRO_LIMIT = 0.05  # MVTec LOCO reports up to this false-positive rate


def compute_spro_metrics(scores: ImageScores, dataset: Dataset) -> dict[str, Estimate]:
    """Area under the sPRO curve up to 0.05 at the images' own sizes (MVTec LOCO; Bergmann et al., IJCV 2022).

    ``au_spro`` is the mean over the two kinds of anomalies, each beside all normal images, as its authors report; so is
    ``image_auroc_mean``. In the names of the kinds, characters that MLflow refuses become ``_``. Empty for data sets whose masks
    do not say when a defect counts as detected.
    """
    samples = {sample.id: sample for sample in dataset.samples}
    masks = [samples[sample_id].mask for sample_id, label in zip(scores.ids, scores.labels, strict=True) if label]
    if not masks or not all(isinstance(mask, Layers) and mask.kinds for mask in masks):
        return {}

    def area(kind: str | None) -> float | None:
        return spro.stream_au_spro(lambda: _maps_at_full_size(scores, samples, kind), SPRO_LIMIT)

    kinds = sorted({defect for defect, label in zip(scores.defects, scores.labels, strict=True) if label})
    areas = {kind: area(kind) for kind in kinds}
    aurocs = []
    for kind in kinds:
        indices = _indices(scores, kind)
        aurocs.append(ranking.auroc(scores.labels[indices], scores.score[indices]))
    values = {
        "au_spro": _mean(list(areas.values())),
        **{f"au_spro_{_metric_suffix(kind)}": value for kind, value in areas.items()},
        "au_spro_pooled": area(None),
        "image_auroc_mean": _mean(aurocs),
    }
    return {name: Estimate(value, reason=NO_INTERVAL) for name, value in values.items()}


def _metric_suffix(kind: str) -> str:
    """A kind of anomaly within a metric's name: a manifest's text may hold characters that MLflow refuses, and be any length."""
    return re.sub(r"[^\w.\- ]", "_", kind)[:200] or summary.UNTYPED


def _indices(scores: ImageScores, kind: str | None) -> np.ndarray:
    """Indices of the normal images and of the anomalous ones of a kind; of all kinds if None."""
    is_chosen = [not label or kind in (None, defect) for label, defect in zip(scores.labels, scores.defects, strict=True)]
    return np.flatnonzero(is_chosen)


def _maps_at_full_size(
    scores: ImageScores, samples: Mapping[str, Sample], kind: str | None
) -> Iterator[tuple[np.ndarray, list[spro.Defect]]]:
    """Maps at their images' own sizes, one at a time, with the defects of each."""
    assert scores.anomaly_maps is not None
    for index in _indices(scores, kind):
        sample = samples[scores.ids[index]]
        defects = read_defects(sample.mask) if isinstance(sample.mask, Layers) else []
        width, height = image_size(sample.image)
        small = torch.from_numpy(scores.anomaly_maps[index])[None, None]
        large = torch.nn.functional.interpolate(small, (height, width), mode="bilinear", align_corners=False)[0, 0]
        yield large.numpy(), [spro.Defect(pixels, saturation) for pixels, saturation in defects]


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(values) if len(defined) == len(values) else None
