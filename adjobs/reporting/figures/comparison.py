"""A figure of a comparison: the metric of each method against its cost, and what labelled anomalies are worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from adjobs.reporting.figures.style import BLUE, DPI, GREY, INK, RED, SMALL, YELLOW, fit_text, metric_name, style_axes

_COLOURS = (BLUE, RED, YELLOW, INK, GREY)
_LABEL_POINTS = 120.0  # width of a name


class ComparedMethod(NamedTuple):
    """A method in the figure.

    Attributes:
        name: of the method.
        value: its metric on validation.
        difference: ends of the interval of its difference to the best, each None where unknown; None for the best.
        ms_per_image: of prediction.
        is_tied: the best, or not distinguishable from it.
        curve: pairs of labelled anomalies and the metric, ascending; a single pair is not drawn.
    """

    name: str
    value: float
    difference: tuple[float | None, float | None] | None
    ms_per_image: float
    is_tied: bool
    curve: tuple[tuple[int, float | None], ...] = ()


def comparison(compared: Sequence[ComparedMethod], metric: str) -> Figure:
    """Draw the methods, the best first."""
    curves = [method for method in compared if len(method.curve) > 1]
    figure = Figure(figsize=(9.6 if curves else 5.6, 4.6), dpi=DPI, layout="constrained")
    axes = figure.subplots(1, 2 if curves else 1, squeeze=False)[0]
    _draw_costs(axes[0], compared, metric)
    if curves:
        _draw_curves(axes[1], curves, metric)
    return figure


def _draw_costs(axes: Axes, compared: Sequence[ComparedMethod], metric: str) -> None:
    """Each method with the interval of its difference to the best, drawn at the best."""
    style_axes(axes, "Methods on validation", "ms per image", metric_name(metric))
    best = compared[0].value
    for method in compared:
        colour = BLUE if method.is_tied else GREY
        low, high = method.difference or (None, None)
        if low is not None and high is not None:
            axes.plot([method.ms_per_image] * 2, [best + low, min(1.0, best + high)], color=colour, linewidth=1.2)
        axes.plot([method.ms_per_image], [method.value], "o", color=colour, markersize=6)
        axes.annotate(
            fit_text(method.name, _LABEL_POINTS),
            (method.ms_per_image, method.value),
            xytext=(6, 4),
            textcoords="offset points",
            fontsize=SMALL,
            color=INK,
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.margins(x=0.25, y=0.12)
    for label, colour in (("best, or not distinguishable from it", BLUE), ("worse than the best", GREY)):
        axes.plot([], [], "o", color=colour, label=label)
    axes.legend(frameon=False, fontsize=SMALL, labelcolor=INK, loc="lower left")


def _draw_curves(axes: Axes, curves: Sequence[ComparedMethod], metric: str) -> None:
    style_axes(axes, "What labels are worth", "labelled anomalies in training", metric_name(metric))
    for method, colour in zip(curves, _COLOURS * len(curves), strict=False):
        counts, values = zip(*method.curve, strict=True)
        axes.plot(counts, values, "o-", color=colour, markersize=5, linewidth=1.4, label=fit_text(method.name, _LABEL_POINTS))
    axes.set_xlim(0, 1.06 * max(method.curve[-1][0] for method in curves))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, fontsize=SMALL, labelcolor=INK)
