"""The pictures of a run: score histogram, curves, confusion matrix, galleries. Built without pyplot's global state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adjobs.metrics import ranking, region
from adjobs.types import Scores

GOOD, BAD, INK = "#4477aa", "#cc3311", "#333333"  # told apart in print and by colour-blind readers
GALLERY = 6  # pictures per row of a gallery


class Case(NamedTuple):
    """One picture of a gallery: ``image`` (H, W, 3) uint8, ``map`` (H, W), ``mask`` (H, W) bool or None."""

    title: str
    image: np.ndarray
    map: np.ndarray
    mask: np.ndarray | None


def _axes(title: str, x: str, y: str, size: tuple[float, float] = (5.6, 4.2)) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    axes = figure.subplots()
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    return figure, axes


def histogram(scores: Scores, threshold: float, part: str) -> Figure:
    """Scores of good and anomalous images, with the threshold."""
    figure, axes = _axes(f"Scores of the {part} part", "anomaly score", "images")
    bins = np.histogram_bin_edges(scores.scores, bins=40)
    for label, name, colour in ((0, "good", GOOD), (1, "anomalous", BAD)):
        chosen = scores.scores[scores.labels == label]
        axes.hist(chosen, bins.tolist(), color=colour, alpha=0.6, label=f"{name} ({len(chosen)})")
    axes.axvline(threshold, color=INK, linestyle="--", label=f"threshold {threshold:.4g}")
    axes.legend(frameon=False)
    return figure


def roc(scores: Scores, part: str) -> Figure | None:
    """Receiver operating characteristic of the image scores; None where a class is missing."""
    curve = ranking.roc_curve(scores.labels, scores.scores)
    if curve is None:
        return None
    figure, axes = _axes(f"ROC, {part} part", "false-alarm rate", "detection rate")
    fpr, tpr, _ = curve
    axes.plot(fpr, tpr, color=GOOD, label=f"image AUROC {ranking.auroc(scores.labels, scores.scores):.3f}")
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=":", label="chance")
    axes.set(xlim=(-0.01, 1), ylim=(0, 1.01))
    axes.legend(frameon=False, loc="lower right")
    return figure


def pr(scores: Scores, part: str) -> Figure | None:
    """Precision against recall of the image scores; None where a class is missing."""
    curve = ranking.pr_curve(scores.labels, scores.scores)
    if curve is None:
        return None
    figure, axes = _axes(f"Precision and recall, {part} part", "recall", "precision")
    precision, recall, _ = curve
    axes.step(
        recall,
        precision,
        where="post",
        color=GOOD,
        label=f"image AP {ranking.average_precision(scores.labels, scores.scores):.3f}",
    )
    share = float(scores.labels.mean())
    axes.axhline(share, color=INK, linewidth=0.8, linestyle=":", label=f"chance {share:.3f}")
    axes.set(xlim=(0, 1), ylim=(0, 1.01))
    axes.legend(frameon=False, loc="lower left")
    return figure


def pro(scores: Scores, part: str, limit: float = 0.3) -> Figure | None:
    """Per-region overlap against pixel false-alarm rate up to the limit; None without masks or maps."""
    if scores.maps is None or scores.masks is None:
        return None
    curve = region.pro_curve(scores.maps, scores.masks)
    if curve is None:
        return None
    fpr, overlap = curve
    keep = np.unique(np.linspace(0, len(fpr) - 1, 2000).astype(int))  # more points than a page has dots
    figure, axes = _axes(f"Per-region overlap, {part} part", "pixel false-alarm rate", "mean overlap of defect regions")
    axes.plot(
        fpr[keep],
        overlap[keep],
        color=GOOD,
        label=f"AU-PRO up to {limit:g}: {region.au_pro(scores.maps, scores.masks, limit):.3f}",
    )
    axes.axvline(limit, color=INK, linewidth=0.8, linestyle=":")
    axes.set(xlim=(0, min(1, 1.15 * limit)), ylim=(0, 1.01))
    axes.legend(frameon=False, loc="lower right")
    return figure


def confusion(scores: Scores, threshold: float, part: str) -> Figure:
    """Counts of right and wrong decisions at the threshold."""
    counts = ranking.confusion(scores.labels, scores.scores >= threshold)
    matrix = np.array([[counts["tn"], counts["fp"]], [counts["fn"], counts["tp"]]])
    figure, axes = _axes(f"Decisions at {threshold:.4g}, {part} part", "called", "is", (4.2, 3.8))
    shares = matrix / np.maximum(1, matrix.sum(1, keepdims=True))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xticks=[0, 1], xticklabels=["good", "anomalous"], yticks=[0, 1], yticklabels=["good", "anomalous"])
    axes.grid(visible=False)
    for (i, j), count in np.ndenumerate(matrix):
        colour = "white" if shares[i, j] > 0.5 else INK
        axes.text(j, i, f"{count}\n{shares[i, j]:.1%}", ha="center", va="center", color=colour)
    return figure


def pick(scores: Scores, threshold: float) -> dict[str, np.ndarray]:
    """Rows worth a look: worst misses, worst false alarms, clearest hits."""
    order = np.argsort(scores.scores, kind="stable")
    labels, called = scores.labels[order], scores.scores[order] >= threshold
    return {
        "misses": order[(labels == 1) & ~called][:GALLERY],
        "false_alarms": order[(labels == 0) & called][::-1][:GALLERY],
        "hits": order[(labels == 1) & called][::-1][:GALLERY],
    }


def gallery(cases: Sequence[Case], title: str, scale: tuple[float, float]) -> Figure:
    """Image, ground truth where known, and heat map of each case, all maps on one scale with its colour bar."""
    with_mask = any(case.mask is not None for case in cases)
    rows = 3 if with_mask else 2
    figure = Figure(figsize=(1.7 * max(3, len(cases)) + 0.8, 1.8 * rows + 0.5), dpi=110, layout="constrained")
    figure.suptitle(title)
    grid = figure.subplots(rows, max(3, len(cases)), squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    shown = None
    for column, case in zip(grid.T, cases, strict=False):
        column[0].imshow(case.image)
        column[0].set_title(case.title, fontsize=7)
        shown = column[-1].imshow(case.map, cmap="inferno", vmin=scale[0], vmax=scale[1])
        if with_mask and case.mask is not None:
            column[1].imshow(case.mask, cmap="gray", vmin=0, vmax=1)
    if shown is not None:
        figure.colorbar(shown, ax=grid[-1, :].tolist(), shrink=0.8, label="anomaly score")
    return figure
