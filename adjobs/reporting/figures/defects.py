"""How well each type of defect is found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adjobs.metrics.intervals import Estimate
from adjobs.reporting.figures.style import DPI, GOOD, INK, PALE, PALE_GOOD, SMALL, SPLITS, Estimates, fit, plain

_NAMES = 150.0  # points that the names of the defect types may take


def defects(counts: Mapping[str, int], measures: Mapping[str, Estimates], part: str) -> Figure | None:
    """Share found at the threshold and image AUROC of each defect type, with intervals, worst first; None without defects.

    Args:
        counts: anomalous images of each type.
        measures: ``image_recall`` and ``image_auroc`` of each type against the good images of the part.
        part: its name.
    """
    found = {name: measures[name]["image_recall"] for name in counts if "image_recall" in measures.get(name, {})}
    if not found:
        return None
    # Bars are drawn upwards; the worst ends on top.
    order = sorted(found, key=lambda name: (-_value(found[name]), -counts[name], name))
    figure = Figure(figsize=(8.4, 1.5 + 0.34 * len(order)), dpi=DPI, layout="constrained")
    figure.suptitle(f"Defect types, {SPLITS.get(part, part)} images", fontsize=10.5, x=0.01, ha="left", color=INK)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1.2, 1))
    plain(left, x="share found at the threshold")
    plain(right, x="image AUROC against good images")
    for axes in (left, right):
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.set(xlim=(0, 1.02), ylim=(-0.6, len(order) - 0.4))
    _bars(left, [found[name] for name in order], [counts[name] for name in order])
    _dots(right, [measures[name].get("image_auroc") for name in order])
    left.set_yticks(range(len(order)), [fit(name, _NAMES) for name in order], parse_math=False)
    return figure


def _bars(axes: Axes, found: Sequence[Estimate], counts: Sequence[int]) -> None:
    axes.barh(range(len(found)), [_value(one) for one in found], height=0.62, color=PALE_GOOD)
    for place, (one, count) in enumerate(zip(found, counts, strict=True)):
        counted = f"{round(count * _value(one))} of {count}"
        axes.text(1.03, place, counted, transform=axes.get_yaxis_transform(), va="center", fontsize=SMALL, color=INK)
    _whiskers(axes, found)


def _dots(axes: Axes, found: Sequence[Estimate | None]) -> None:
    axes.axvline(0.5, color=PALE, linestyle=":", linewidth=1)
    axes.text(0.5, 1.0, "chance", transform=axes.get_xaxis_transform(), fontsize=SMALL - 1, color=PALE, ha="center", va="bottom")
    places = [place for place, one in enumerate(found) if one is not None and one.value is not None]
    axes.plot([_value(found[place]) for place in places], places, "o", color=GOOD, markersize=6)
    _whiskers(axes, found)


def _whiskers(axes: Axes, found: Sequence[Estimate | None]) -> None:
    for place, one in enumerate(found):
        if one is not None and one.low is not None and one.high is not None:
            axes.plot([one.low, one.high], [place, place], color=INK, linewidth=1.2, marker="|", markersize=6)


def _value(one: Estimate | None) -> float:
    return 0.0 if one is None or one.value is None else one.value
