"""Figures of the scores of one split: histogram, ROC, precision and recall, per-region overlap, confusion matrix."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from adjobs.metrics import CONFIDENCE, ranking, region
from adjobs.metrics.intervals import Band, pr_band, pro_band, roc_band
from adjobs.reporting.figures.style import (
    BLUE,
    DPI,
    GREY,
    INK,
    RED,
    SMALL,
    SPLITS,
    YELLOW,
    Estimates,
    legend_below,
    new_figure,
    style_axes,
    with_interval,
)
from adjobs.types import ImageScores

BINS = 40
MAX_POINTS = 2000  # more than a page has dots
LOG_FROM, LOG_TO = 1e2, 1e6
"""The axis is logarithmic if largest over smallest score is in this range; beyond it, one score next to 0 would stretch it."""


def histogram(scores: ImageScores, threshold: float, split: str) -> Figure | None:
    """Scores of good and of anomalous images, each class on its own count axis, with the threshold; None without images.

    One tick under the bars is one image, so that a single false alarm among thousands is visible.
    """
    if not len(scores.score):
        return None
    figure = Figure(figsize=(5.6, 5.0), dpi=DPI, layout="constrained")
    figure.suptitle(f"Anomaly scores, {SPLITS.get(split, split)} images", fontsize=10.5, x=0.01, ha="left", color=INK)
    panels = figure.subplots(2, 1, sharex=True)
    edges, is_logarithmic = _bins(scores.score, threshold)
    is_visible = bool(edges[0] <= threshold <= edges[-1])
    for axes, label, name, colour in zip(panels, (0, 1), ("normal", "anomalous"), (BLUE, RED), strict=True):
        of_class = scores.score[scores.labels == label]
        alarms = int((of_class >= threshold).sum())
        style_axes(axes, y="images")
        axes.set_title(f"{len(of_class)} {name}, {alarms} of them raise an alarm", loc="left", fontsize=SMALL, color=colour)
        counts, _, _ = axes.hist(of_class, edges, color=colour)
        top = max(1.0, float(counts.max()))
        axes.plot(of_class, np.full(len(of_class), -0.07 * top), "|", color=colour, markersize=6, markeredgewidth=0.7)
        axes.set_ylim(-0.14 * top, 1.05 * top)
        axes.set_yticks([tick for tick in MaxNLocator(4, integer=True).tick_values(0, top) if 0 <= tick <= top])
        if is_visible:
            axes.axvspan(threshold, edges[-1], color=YELLOW, alpha=0.15, linewidth=0, zorder=0)
            axes.axvline(threshold, color=INK, linestyle="--", linewidth=1.2)
    if is_logarithmic:
        panels[1].set_xscale("log")
    panels[1].set_xlim(edges[0], edges[-1])
    note = "" if is_visible else " (outside the figure)"
    panels[1].set_xlabel(f"anomaly score; alarm from {threshold:.4g}{note}", fontsize=9.5, color=INK)
    return figure


def _bins(scores: np.ndarray, threshold: float) -> tuple[np.ndarray, bool]:
    """Edges of the bins, and whether they are equal on a logarithmic axis. The threshold is an edge unless it is far away."""
    low, high = float(scores.min()), float(scores.max())
    width = _span(low, high)
    is_near = low - width <= threshold <= high + width
    if is_near:
        low, high = min(low, threshold), max(high, threshold)
    if LOG_FROM * low < high < LOG_TO * low:
        edges = np.exp(_grid(np.log(low), np.log(high), np.log(threshold) if is_near else np.log(low)))
        # exp(log(x)) is not x, and a bar must not reach over the line.
        return np.where(np.isclose(edges, threshold, rtol=1e-9, atol=0), threshold, edges), True
    return _grid(low, high, threshold if is_near else low), False


def _grid(low: float, high: float, edge: float) -> np.ndarray:
    """Equal steps that cover ``low`` to ``high`` with a margin, one of them exactly at ``edge``."""
    step = _span(low, high) / BINS
    first, last = np.floor((low - edge) / step) - 1, np.ceil((high - edge) / step) + 1
    return np.asarray(edge + step * np.arange(first, last + 1))


def _span(low: float, high: float) -> float:
    """The distance, or the magnitude of the numbers if they are equal up to rounding."""
    size = max(abs(low), abs(high))
    return high - low if high - low > 1e-6 * size else size or 1.0


def roc(scores: ImageScores, threshold: float, split: str, metrics: Estimates) -> Figure | None:
    """Receiver operating characteristic of the image scores; None where a class is missing.

    Args:
        scores: of one split.
        threshold: for images; a dot on the curve.
        split: its name.
        metrics: of the split, for the label.
    """
    curve = ranking.roc_curve(scores.labels, scores.score)
    if curve is None:
        return None
    figure, axes = new_figure(
        f"ROC, {SPLITS.get(split, split)} images", "false-alarm rate", "share of anomalies detected (recall)"
    )
    axes.plot(curve.fpr, curve.tpr, color=BLUE, label=with_interval("image AUROC", metrics.get("image_auroc")))
    _draw_band(axes, roc_band(scores.labels, scores.score))
    alarms = scores.score >= threshold
    recall, fpr = float(alarms[scores.labels == 1].mean()), float(alarms[scores.labels == 0].mean())
    _draw_dot(axes, fpr, recall, f"threshold {threshold:.4g}: {_percent(recall)} detected, {_percent(fpr)} false alarms")
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":", label="chance")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))
    legend_below(figure, axes)
    return figure


def pr(scores: ImageScores, threshold: float, split: str, metrics: Estimates) -> Figure | None:
    """Precision against recall of the image scores; None where a class is missing. Arguments as for :func:`roc`."""
    curve = ranking.pr_curve(scores.labels, scores.score)
    if curve is None:
        return None
    figure, axes = new_figure(
        f"Precision and recall, {SPLITS.get(split, split)} images",
        "share of anomalies detected (recall)",
        "share of alarms that are correct (precision)",
    )
    label = with_interval("image AP", metrics.get("image_ap"))
    axes.step(np.append(curve.recall, 0), np.append(curve.precision, curve.precision[-1]), where="post", color=BLUE, label=label)
    _draw_band(axes, pr_band(scores.labels, scores.score))
    alarms = scores.score >= threshold
    if alarms.any():  # without one there is no precision
        recall, precision = float(alarms[scores.labels == 1].mean()), float(scores.labels[alarms].mean())
        text = f"threshold {threshold:.4g}: {_percent(recall)} detected, {_percent(precision)} of alarms correct"
        _draw_dot(axes, recall, precision, text)
    share = float(scores.labels.mean())
    axes.axhline(share, color=GREY, linewidth=1, linestyle=":", label=f"chance {share:.3f}")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))
    legend_below(figure, axes)
    return figure


def pro(scores: ImageScores, split: str, metrics: Estimates, limit: float = 0.3) -> Figure | None:
    """Per-region overlap against pixel false-alarm rate up to the limit; None without maps, or where a mask is unknown."""
    masks = scores.complete_masks
    if scores.anomaly_maps is None or masks is None:
        return None
    curve = region.pro_curve(scores.anomaly_maps, masks)
    if curve is None:
        return None
    fpr, overlap = curve
    end = min(1.0, 1.15 * limit)
    inside = np.flatnonzero(fpr <= end)
    # One point beyond the figure, so that the line reaches its border.
    points = np.unique(np.linspace(0, min(inside[-1] + 1, len(fpr) - 1), MAX_POINTS).astype(int))
    figure, axes = new_figure(
        f"Per-region overlap, {SPLITS.get(split, split)} images",
        "share of defect-free pixels above the threshold",
        "mean overlap of defects",
    )
    axes.plot(fpr[points], overlap[points], color=BLUE, label=with_interval(f"AU-PRO up to {limit:g}", metrics.get("au_pro")))
    _draw_band(axes, pro_band(scores.anomaly_maps, masks, limit))
    axes.axvline(limit, color=GREY, linewidth=1, linestyle=":", label=f"limit {limit:g}")
    axes.set(xlim=(-0.01 * end, end), ylim=(-0.01, 1.02))
    legend_below(figure, axes)
    return figure


def confusion(scores: ImageScores, threshold: float, split: str) -> Figure:
    """Counts of correct and wrong decisions at the threshold, shaded by their share of the class."""
    counts = ranking.confusion(scores.labels, scores.score >= threshold)
    matrix = np.array([[counts["tn"], counts["fp"]], [counts["fn"], counts["tp"]]])
    names = (("passed", "false alarms"), ("missed", "detected"))
    title = f"Decisions at {threshold:.4g}, {SPLITS.get(split, split)} images"
    figure, axes = new_figure(title, "predicted", "actual", (4.6, 4.0))
    shares = matrix / np.maximum(1, matrix.sum(1, keepdims=True))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1.15)
    axes.set(xticks=[0, 1], xticklabels=["normal", "anomalous"], yticks=[0, 1], yticklabels=["normal", "anomalous"])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    for (i, j), count in np.ndenumerate(matrix):
        colour = "white" if shares[i, j] > 0.55 else INK
        axes.text(j, i - 0.06, f"{count}", ha="center", va="center", color=colour, fontsize=17)
        text = f"{names[i][j]}, {_percent(shares[i, j])}" if matrix[i].any() else names[i][j]
        axes.text(j, i + 0.19, text, ha="center", va="center", color=colour, fontsize=SMALL)
    return figure


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _draw_band(axes: Axes, band: Band | None) -> None:
    if band is not None:
        axes.fill_between(
            band.x, band.low, band.high, color=BLUE, alpha=0.18, linewidth=0, label=f"{100 * CONFIDENCE:g} % interval"
        )


def _draw_dot(axes: Axes, x: float, y: float, label: str) -> None:
    axes.plot(
        [x], [y], "o", color=YELLOW, markersize=8, markeredgecolor=INK, markeredgewidth=1.2, label=label, clip_on=False, zorder=5
    )
