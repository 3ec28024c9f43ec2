"""Figures of the scores of one part: histogram, ROC, precision and recall, per-region overlap, decisions."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from adjobs.metrics import CONFIDENCE, ranking, region
from adjobs.metrics.intervals import Band, pr_band, pro_band, roc_band
from adjobs.reporting.figures.style import (
    BAD,
    DPI,
    GOOD,
    INK,
    MARK,
    PALE,
    SMALL,
    SPLITS,
    Estimates,
    canvas,
    legend_below,
    plain,
    said,
)
from adjobs.types import ImageScores

BINS = 40
MOST_POINTS = 2000  # more than a page has dots
LOG_FROM, LOG_TO = 1e2, 1e6
"""Largest score over smallest between which the axis is logarithmic. Beyond, one score next to 0 would stretch it for all."""


def histogram(scores: ImageScores, threshold: float, part: str) -> Figure | None:
    """Scores of good and of anomalous images, each class on its own count axis, with the threshold; None without images.

    One tick under the bars is one image, so that a single false alarm among thousands is seen.
    """
    if not len(scores.score):
        return None
    figure = Figure(figsize=(5.6, 5.0), dpi=DPI, layout="constrained")
    figure.suptitle(f"Anomaly scores, {SPLITS.get(part, part)} images", fontsize=10.5, x=0.01, ha="left", color=INK)
    panels = figure.subplots(2, 1, sharex=True)
    edges, logarithmic = _bins(scores.score, threshold)
    inside = bool(edges[0] <= threshold <= edges[-1])
    for axes, label, name, colour in zip(panels, (0, 1), ("good", "anomalous"), (GOOD, BAD), strict=True):
        chosen = scores.score[scores.labels == label]
        alarms = int((chosen >= threshold).sum())
        plain(axes, y="images")
        axes.set_title(f"{len(chosen)} {name}, {alarms} of them raise an alarm", loc="left", fontsize=SMALL, color=colour)
        counts, _, _ = axes.hist(chosen, edges, color=colour)
        top = max(1.0, float(counts.max()))
        axes.plot(chosen, np.full(len(chosen), -0.07 * top), "|", color=colour, markersize=6, markeredgewidth=0.7)
        axes.set_ylim(-0.14 * top, 1.05 * top)
        axes.set_yticks([tick for tick in MaxNLocator(4, integer=True).tick_values(0, top) if 0 <= tick <= top])
        if inside:
            axes.axvspan(threshold, edges[-1], color=MARK, alpha=0.15, linewidth=0, zorder=0)
            axes.axvline(threshold, color=INK, linestyle="--", linewidth=1.2)
    if logarithmic:
        panels[1].set_xscale("log")
    panels[1].set_xlim(edges[0], edges[-1])
    where = "" if inside else " (outside the picture)"
    panels[1].set_xlabel(f"anomaly score; alarm from {threshold:.4g}{where}", fontsize=9.5, color=INK)
    return figure


def _bins(scores: np.ndarray, threshold: float) -> tuple[np.ndarray, bool]:
    """Edges of the bins, and whether they are equal on a logarithmic axis. The threshold is an edge unless it is far away."""
    low, high = float(scores.min()), float(scores.max())
    width = _span(low, high)
    near = low - width <= threshold <= high + width
    if near:
        low, high = min(low, threshold), max(high, threshold)
    if LOG_FROM * low < high < LOG_TO * low:
        edges = np.exp(_grid(np.log(low), np.log(high), np.log(threshold) if near else np.log(low)))
        # exp(log(x)) is not x, and a bar must not reach over the line.
        return np.where(np.isclose(edges, threshold, rtol=1e-9, atol=0), threshold, edges), True
    return _grid(low, high, threshold if near else low), False


def _grid(low: float, high: float, edge: float) -> np.ndarray:
    """Equal steps that cover ``low`` to ``high`` with room beside them, one of them exactly at ``edge``."""
    step = _span(low, high) / BINS
    first, last = np.floor((low - edge) / step) - 1, np.ceil((high - edge) / step) + 1
    return np.asarray(edge + step * np.arange(first, last + 1))


def _span(low: float, high: float) -> float:
    """The distance, or the numbers' own size where they are equal up to rounding."""
    size = max(abs(low), abs(high))
    return high - low if high - low > 1e-6 * size else size or 1.0


def roc(scores: ImageScores, threshold: float, part: str, measures: Estimates) -> Figure | None:
    """Receiver operating characteristic of the image scores; None where a class is missing.

    Args:
        scores: of one part.
        threshold: where images are decided; marked on the curve.
        part: its name.
        measures: of the part, for the label.
    """
    curve = ranking.roc_curve(scores.labels, scores.score)
    if curve is None:
        return None
    figure, axes = canvas(f"ROC, {SPLITS.get(part, part)} images", "false-alarm rate", "share of anomalies found")
    axes.plot(curve.fpr, curve.tpr, color=GOOD, label=said("image AUROC", measures.get("image_auroc")))
    _shade(axes, roc_band(scores.labels, scores.score))
    alarms = scores.score >= threshold
    found, false = float(alarms[scores.labels == 1].mean()), float(alarms[scores.labels == 0].mean())
    _mark(axes, false, found, f"threshold {threshold:.4g}: {_percent(found)} found, {_percent(false)} false alarms")
    axes.plot([0, 1], [0, 1], color=PALE, linewidth=1, linestyle=":", label="chance")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))
    legend_below(figure, axes)
    return figure


def pr(scores: ImageScores, threshold: float, part: str, measures: Estimates) -> Figure | None:
    """Precision against recall of the image scores; None where a class is missing. Arguments as for :func:`roc`."""
    curve = ranking.pr_curve(scores.labels, scores.score)
    if curve is None:
        return None
    figure, axes = canvas(
        f"Precision and recall, {SPLITS.get(part, part)} images",
        "share of anomalies found (recall)",
        "share of alarms that are right (precision)",
    )
    label = said("image AP", measures.get("image_ap"))
    axes.step(np.append(curve.recall, 0), np.append(curve.precision, curve.precision[-1]), where="post", color=GOOD, label=label)
    _shade(axes, pr_band(scores.labels, scores.score))
    alarms = scores.score >= threshold
    if alarms.any():  # without one there is no precision
        found, right = float(alarms[scores.labels == 1].mean()), float(scores.labels[alarms].mean())
        _mark(axes, found, right, f"threshold {threshold:.4g}: {_percent(found)} found, {_percent(right)} of alarms right")
    share = float(scores.labels.mean())
    axes.axhline(share, color=PALE, linewidth=1, linestyle=":", label=f"chance {share:.3f}")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))
    legend_below(figure, axes)
    return figure


def pro(scores: ImageScores, part: str, measures: Estimates, limit: float = 0.3) -> Figure | None:
    """Per-region overlap against pixel false-alarm rate up to the limit; None without masks or maps."""
    if scores.anomaly_maps is None or scores.masks is None:
        return None
    curve = region.pro_curve(scores.anomaly_maps, scores.masks)
    if curve is None:
        return None
    fpr, overlap = curve
    end = min(1.0, 1.15 * limit)
    inside = np.flatnonzero(fpr <= end)
    # One point beyond the picture, so that the line reaches its border.
    keep = np.unique(np.linspace(0, min(inside[-1] + 1, len(fpr) - 1), MOST_POINTS).astype(int))
    figure, axes = canvas(
        f"Per-region overlap, {SPLITS.get(part, part)} images",
        "share of good pixels above the threshold",
        "mean overlap of defects",
    )
    axes.plot(fpr[keep], overlap[keep], color=GOOD, label=said(f"AU-PRO up to {limit:g}", measures.get("au_pro")))
    _shade(axes, pro_band(scores.anomaly_maps, scores.masks, limit))
    axes.axvline(limit, color=PALE, linewidth=1, linestyle=":", label=f"limit {limit:g}")
    axes.set(xlim=(-0.01 * end, end), ylim=(-0.01, 1.02))
    legend_below(figure, axes)
    return figure


def confusion(scores: ImageScores, threshold: float, part: str) -> Figure:
    """Counts of right and wrong decisions at the threshold, shaded by their share of the class."""
    counts = ranking.confusion(scores.labels, scores.score >= threshold)
    matrix = np.array([[counts["tn"], counts["fp"]], [counts["fn"], counts["tp"]]])
    words = (("passed", "false alarms"), ("missed", "found"))
    title = f"Decisions at {threshold:.4g}, {SPLITS.get(part, part)} images"
    figure, axes = canvas(title, "called", "is", (4.6, 4.0))
    shares = matrix / np.maximum(1, matrix.sum(1, keepdims=True))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1.15)
    axes.set(xticks=[0, 1], xticklabels=["good", "anomalous"], yticks=[0, 1], yticklabels=["good", "anomalous"])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    for (i, j), count in np.ndenumerate(matrix):
        colour = "white" if shares[i, j] > 0.55 else INK
        axes.text(j, i - 0.06, f"{count}", ha="center", va="center", color=colour, fontsize=17)
        axes.text(j, i + 0.19, f"{words[i][j]}, {_percent(shares[i, j])}", ha="center", va="center", color=colour, fontsize=SMALL)
    return figure


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _shade(axes: Axes, band: Band | None) -> None:
    if band is not None:
        axes.fill_between(
            band.x, band.low, band.high, color=GOOD, alpha=0.18, linewidth=0, label=f"{100 * CONFIDENCE:g} % interval"
        )


def _mark(axes: Axes, x: float, y: float, label: str) -> None:
    axes.plot(
        [x], [y], "o", color=MARK, markersize=8, markeredgecolor=INK, markeredgewidth=1.2, label=label, clip_on=False, zorder=5
    )
