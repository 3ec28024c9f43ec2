"""How well each defect type is detected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adjobs.metrics.intervals import Estimate
from adjobs.reporting.figures.style import BLUE, DPI, GREY, INK, LIGHT_BLUE, SMALL, SPLITS, Estimates, fit_text, style_axes

_NAMES = 150.0  # points that the names of the defect types may take


def defects(counts: Mapping[str, int], metrics: Mapping[str, Estimates], split: str) -> Figure | None:
    """Recall at the threshold and image AUROC of each defect type, with intervals, worst first; None without defects.

    Args:
        counts: anomalous images of each type.
        metrics: ``image_recall`` and ``image_auroc`` of each type against the normal images of the split.
        split: its name.
    """
    recall = {name: metrics[name]["image_recall"] for name in counts if "image_recall" in metrics.get(name, {})}
    if not recall:
        return None
    # Bars are drawn upwards, so that the worst is on top.
    order = sorted(recall, key=lambda name: (-_value(recall[name]), -counts[name], name))
    figure = Figure(figsize=(8.4, 1.5 + 0.34 * len(order)), dpi=DPI, layout="constrained")
    figure.suptitle(f"Defect types, {SPLITS.get(split, split)} images", fontsize=10.5, x=0.01, ha="left", color=INK)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1.2, 1))
    style_axes(left, x="recall at the threshold")
    style_axes(right, x="image AUROC against normal images")
    for axes in (left, right):
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.set(xlim=(0, 1.02), ylim=(-0.6, len(order) - 0.4))
    _bars(left, [recall[name] for name in order], [counts[name] for name in order])
    _dots(right, [metrics[name].get("image_auroc") for name in order])
    left.set_yticks(range(len(order)), [fit_text(name, _NAMES) for name in order], parse_math=False)
    return figure


def _bars(axes: Axes, estimates: Sequence[Estimate], counts: Sequence[int]) -> None:
    axes.barh(range(len(estimates)), [_value(estimate) for estimate in estimates], height=0.62, color=LIGHT_BLUE)
    for y, (estimate, count) in enumerate(zip(estimates, counts, strict=True)):
        text = f"{round(count * _value(estimate))} of {count}"
        axes.text(1.03, y, text, transform=axes.get_yaxis_transform(), va="center", fontsize=SMALL, color=INK)
    _whiskers(axes, estimates)


def _dots(axes: Axes, estimates: Sequence[Estimate | None]) -> None:
    axes.axvline(0.5, color=GREY, linestyle=":", linewidth=1)
    axes.text(0.5, 1.0, "chance", transform=axes.get_xaxis_transform(), fontsize=SMALL - 1, color=GREY, ha="center", va="bottom")
    defined = [y for y, estimate in enumerate(estimates) if estimate is not None and estimate.value is not None]
    axes.plot([_value(estimates[y]) for y in defined], defined, "o", color=BLUE, markersize=6)
    _whiskers(axes, estimates)


def _whiskers(axes: Axes, estimates: Sequence[Estimate | None]) -> None:
    for y, estimate in enumerate(estimates):
        if estimate is not None and estimate.low is not None and estimate.high is not None:
            axes.plot([estimate.low, estimate.high], [y, y], color=INK, linewidth=1.2, marker="|", markersize=6)


def _value(estimate: Estimate | None) -> float:
    return 0.0 if estimate is None or estimate.value is None else estimate.value
