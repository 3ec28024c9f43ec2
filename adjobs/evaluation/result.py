"""Metrics of a split, and what an evaluation of a trained method results in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from adjobs.data.dataset import Dataset
from adjobs.errors import shorten
from adjobs.evaluation.spro import compute_spro_metrics
from adjobs.evaluation.thresholds import Thresholds
from adjobs.metrics import ranking, summary
from adjobs.metrics.binned import DEFAULT_LIMIT
from adjobs.metrics.intervals import Estimate
from adjobs.metrics.pixel import exact_pixel_metrics
from adjobs.types import ImageScores


@dataclass(frozen=True)
class SplitMetrics:
    """All metrics of one split, with 95 % intervals where they have one.

    Attributes:
        overall: by name, such as ``image_auroc``.
        by_defect: for each defect type, those metrics that can be computed for its images beside all normal ones.
        counts: anomalous images of each defect type.
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
                defect: {"count": self.counts[defect], **{name: estimate._asdict() for name, estimate in metrics.items()}}
                for defect, metrics in self.by_defect.items()
            },
        }


@dataclass(frozen=True)
class EvaluationResult:
    """A trained method, evaluated.

    Attributes:
        splits: metrics of ``val`` and ``test``; on other data than the run's only ``test``.
        thresholds: chosen on the run's validation split.
        ms_per_image: of prediction, on the test split.
    """

    splits: Mapping[str, SplitMetrics]
    thresholds: Thresholds
    ms_per_image: float

    @property
    def estimates(self) -> dict[str, Estimate]:
        """All metrics of whole splits by names such as ``test/image_auroc``."""
        return {
            f"{split}/{name}": estimate for split, metrics in self.splits.items() for name, estimate in metrics.overall.items()
        }

    @property
    def metrics(self) -> dict[str, float | None]:
        """Their values; None where undefined."""
        return {name: estimate.value for name, estimate in self.estimates.items()}

    @property
    def undefined(self) -> list[str]:
        """The names of the metrics without a value, sorted."""
        return sorted(name for name, value in self.metrics.items() if value is None)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON: ``metrics``, their ``intervals`` and ``reasons``, both thresholds with their ``meaning``, the time."""
        image, pixel = self.thresholds.image, self.thresholds.pixel
        return {
            "metrics": self.metrics,
            "intervals": {name: [estimate.low, estimate.high] for name, estimate in self.estimates.items()},
            "reasons": {name: estimate.reason for name, estimate in self.estimates.items() if estimate.reason},
            "threshold": {**image.to_dict(), "meaning": image.describe()},
            "pixel_threshold": None if pixel is None else {**pixel.to_dict(), "meaning": pixel.describe()},
            "ms_per_image": self.ms_per_image,
        }


def compute_image_metrics(scores: ImageScores, native_threshold: float | None = None) -> dict[str, float | None]:
    """Image metrics that need no chosen threshold, for further scores ``image_auroc_NAME``; None where a class is missing.

    Args:
        scores: of a split.
        native_threshold: where the method itself decides, see :class:`adjobs.methods.contract.Spec`; adds the mean F1 of the
            two classes there, such as ``image_macro_f1_at_0.5``. F1 of anomalies alone is not suited to choose by: where they
            are many, as in the validation splits of published protocols, "all anomalous" has a high one.
    """
    best = ranking.f1_max(scores.labels, scores.score)
    metrics = {
        "image_auroc": ranking.auroc(scores.labels, scores.score),
        "image_ap": ranking.average_precision(scores.labels, scores.score),
        "image_f1max": None if best is None else best[0],
    }
    if native_threshold is not None:
        metrics[f"image_macro_f1_at_{native_threshold:g}"] = ranking.macro_f1(scores.labels, scores.score >= native_threshold)
    return metrics | {f"image_auroc_{name}": ranking.auroc(scores.labels, extra) for name, extra in scores.extra_scores.items()}


def compute_pixel_metrics(scores: ImageScores) -> dict[str, float | None]:
    """Pixel metrics without intervals; empty where there are no maps, or an anomalous image has no mask."""
    masks = scores.complete_masks
    if scores.anomaly_maps is None or masks is None:
        return {}
    pixels = exact_pixel_metrics(scores.anomaly_maps, masks, limits=(DEFAULT_LIMIT,))
    return {"pixel_auroc": pixels.auroc, "pixel_ap": pixels.ap, "au_pro": pixels.au_pro[DEFAULT_LIMIT]}


def compute_split_metrics(
    scores: ImageScores, threshold: float, pixel_threshold: float | None, dataset: Dataset | None = None
) -> SplitMetrics:
    """All metrics of a split.

    Args:
        scores: its predictions.
        threshold: an image is predicted anomalous if its score is at least that.
        pixel_threshold: the same for pixels; None leaves out what depends on it.
        dataset: if its masks say when a defect counts as detected (MVTec LOCO), sPRO is computed too.
    """
    overall = summary.image_metrics(scores.labels, scores.score, threshold)
    by_defect = summary.image_metrics_by_defect(scores.labels, scores.score, scores.defects, threshold)
    for name, extra in scores.extra_scores.items():
        metrics = summary.image_metrics(scores.labels, extra, None)
        overall |= {f"{metric}_{name}": metrics[metric] for metric in ("image_auroc", "image_ap")}
    masks = scores.complete_masks
    if scores.anomaly_maps is None or masks is None:
        reason = _no_pixel_metrics(scores)
        overall |= {name: Estimate(None, reason=reason) for name in ("pixel_auroc", "pixel_ap", "au_pro")}
    else:
        overall |= summary.pixel_metrics(scores.anomaly_maps, masks, pixel_threshold, defects=scores.defects)
    for defect, metrics in _pixel_metrics_by_defect(scores).items():
        by_defect[defect] |= metrics
    if dataset is not None and scores.anomaly_maps is not None:
        overall |= compute_spro_metrics(scores, dataset)
    return SplitMetrics(overall, by_defect, Counter(filter(None, _types(scores))))


def _pixel_metrics_by_defect(scores: ImageScores) -> dict[str, dict[str, Estimate]]:
    """Pixel metrics of the defect types whose images all have a mask, and the reason for the others; empty without any mask."""
    if scores.anomaly_maps is None or scores.masks is None:
        return {}
    unmasked = _unmasked(scores)
    if not unmasked:
        return summary.pixel_metrics_by_defect(scores.anomaly_maps, scores.masks, scores.defects)
    types = _types(scores)
    known = np.array([defect not in unmasked for defect in types])
    masked = tuple(defect for defect, is_known in zip(types, known, strict=True) if is_known)
    metrics = summary.pixel_metrics_by_defect(scores.anomaly_maps[known], scores.masks[known], masked)
    totals = Counter(types)
    for defect, count in unmasked.items():
        estimate = Estimate(None, reason=f"{count} of {totals[defect]} images have no mask")
        metrics[defect] = {"pixel_ap": estimate, "au_pro": estimate}
    return metrics


def _types(scores: ImageScores) -> list[str]:
    """Defect types of the N images, "" for normal ones."""
    return [(defect or summary.UNTYPED) if label else "" for defect, label in zip(scores.defects, scores.labels, strict=True)]


def _unmasked(scores: ImageScores) -> Counter[str]:
    """How many images of each defect type have no mask; types without such images are left out."""
    if scores.mask_known is None:
        return Counter()
    return Counter(defect for defect, is_known in zip(_types(scores), scores.mask_known, strict=True) if not is_known)


def _no_pixel_metrics(scores: ImageScores) -> str:
    """Why there are no pixel metrics of all images."""
    if scores.anomaly_maps is None:
        return "the method gives no map"
    if not scores.labels.any():
        return "no anomalous images"
    unmasked, total = _unmasked(scores), int(scores.labels.sum())
    if not unmasked:
        return "no anomalous image has a mask"
    listed = ", ".join(f"{defect} {count}" for defect, count in unmasked.most_common())
    others = "; the other defect types have pixel metrics of their own" if unmasked.keys() < {*_types(scores)} - {""} else ""
    return f"{unmasked.total()} of {total} anomalous images have no mask ({shorten(listed)}){others}"
