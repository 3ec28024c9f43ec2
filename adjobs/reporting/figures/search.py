"""Figures of a search: its history, the parameters of its trials, their importance, and the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from adjobs.reporting.figures.style import (
    BLUE,
    DPI,
    GREY,
    INK,
    LIGHT_BLUE,
    RED,
    SMALL,
    YELLOW,
    fit_text,
    legend_below,
    metric_name,
    new_figure,
    style_axes,
)

_LABEL_BOX = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.5}
MAX_AXES = 12  # of the parallel coordinates; the most important parameters
SHADES = LinearSegmentedColormap.from_list("search", ["#dddddd", LIGHT_BLUE, BLUE])


class TrialSummary(NamedTuple):
    """A trial in a figure.

    Attributes:
        number: of the trial.
        params: values of the search's parameters.
        values: of the objectives; empty for trials that did not complete.
        pruned_at: the first objective when the trial was pruned; None for other trials.
        is_failed: it failed or ran out of memory.
    """

    number: int
    params: Mapping[str, Any]
    values: tuple[float, ...]
    pruned_at: float | None = None
    is_failed: bool = False


def of_search(
    trials: Sequence[TrialSummary],
    metrics: Sequence[str],
    higher: Sequence[bool],
    importance: Mapping[str, float],
    front: Sequence[int],
) -> dict[str, Figure]:
    """All figures of a search, by name; those that do not apply are left out.

    Args:
        trials: all of them.
        metrics: names of the objectives; the first one chooses.
        higher: whether higher is better, for each.
        importance: share of the variance of the first objective that each parameter explains.
        front: numbers of the trials on the Pareto front.
    """
    figures = {
        "history": history(trials, metrics[0], higher=higher[0]),
        "parallel": parallel(trials, metrics[0], importance, higher=higher[0]),
        "importance": importance_bars(importance, metrics[0]),
        "pareto": pareto(trials, metrics, front) if len(metrics) > 1 else None,
    }
    return {name: figure for name, figure in figures.items() if figure is not None}


def history(trials: Sequence[TrialSummary], metric: str, *, higher: bool) -> Figure | None:
    """The first objective of each trial in the order of their start, and the best so far."""
    name = metric_name(metric)
    figure, axes = new_figure("Search history", "trial", f"{name}, validation", (7.0, 4.4))
    complete = [(trial.number, trial.values[0]) for trial in trials if trial.values]
    pruned = [(trial.number, trial.pruned_at) for trial in trials if trial.pruned_at is not None]
    failed = [trial.number for trial in trials if trial.is_failed]
    if not complete:
        return None
    if pruned:
        axes.plot(*zip(*pruned, strict=True), "x", color=GREY, markersize=5, label="pruned, last value")
    axes.plot(*zip(*complete, strict=True), "o", color=BLUE, markersize=5, label="complete")
    best = (np.maximum if higher else np.minimum).accumulate([value for _, value in complete])
    last = max(trial.number for trial in trials)
    axes.step([*(number for number, _ in complete), last], [*best, best[-1]], where="post", color=YELLOW, label="best so far")
    for number in failed:
        axes.axvline(number, color=RED, linewidth=0.8, alpha=0.6, label="failed" if number == failed[0] else None)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_below(figure, axes)
    return figure


def importance_bars(importance: Mapping[str, float], metric: str) -> Figure | None:
    """How much of the first objective each parameter explains, as bars; None if unknown."""
    if not importance:
        return None
    bars = sorted(importance.items(), key=lambda item: item[1])
    title = "Importance of the parameters"
    figure, axes = new_figure(title, f"share of the variance of {metric_name(metric)}", "", (7.0, 0.9 + 0.32 * len(bars)))
    axes.barh([fit_text(_short(key), 150) for key, _ in bars], [value for _, value in bars], color=BLUE, height=0.6)
    axes.set_xlim(0, 1)
    axes.grid(visible=False, axis="y")
    return figure


def pareto(trials: Sequence[TrialSummary], metrics: Sequence[str], front: Sequence[int]) -> Figure | None:
    """The first objective against the second; the trials on the Pareto front are joined."""
    complete = [trial for trial in trials if trial.values]
    if not complete:
        return None
    figure, axes = new_figure("Pareto front", metric_name(metrics[1]), f"{metric_name(metrics[0])}, validation", (6.2, 5.0))
    x, y = [trial.values[1] for trial in complete], [trial.values[0] for trial in complete]
    axes.plot(x, y, "o", color=LIGHT_BLUE, markersize=5, label="trials")
    best = sorted((trial for trial in complete if trial.number in front), key=lambda trial: trial.values[1])
    x, y = [trial.values[1] for trial in best], [trial.values[0] for trial in best]
    axes.plot(x, y, "-o", color=BLUE, markersize=6, label="Pareto front")
    for trial in best:
        axes.annotate(
            str(trial.number),
            (trial.values[1], trial.values[0]),
            xytext=(5, 5),
            textcoords="offset points",
            fontsize=SMALL,
        )
    legend_below(figure, axes)
    return figure


def parallel(trials: Sequence[TrialSummary], metric: str, importance: Mapping[str, float], *, higher: bool) -> Figure | None:
    """Each complete trial as a line over the parameters that differ, darker if better; None for fewer than two."""
    complete = sorted((trial for trial in trials if trial.values), key=lambda trial: trial.values[0])
    all_keys = dict.fromkeys(key for trial in complete for key in trial.params)
    keys = [key for key in all_keys if len({trial.params.get(key) for trial in complete}) > 1]
    keys = sorted(keys, key=lambda key: -importance.get(key, 0.0))[:MAX_AXES]
    if len(complete) < 2 or len(keys) < 2:
        return None
    figure = Figure(figsize=(max(7.0, 1.25 * (len(keys) + 1)), 4.8), dpi=DPI, layout="constrained")
    axes = style_axes(figure.subplots(), "Parameters of the trials", "", "")
    scales = [_Scale([trial.params[key] for trial in complete if key in trial.params]) for key in keys]
    values = _Scale([trial.values[0] for trial in complete])
    for trial in complete:
        heights = [
            scale.height(trial.params[key]) if key in trial.params else math.nan for key, scale in zip(keys, scales, strict=True)
        ]
        objective = values.height(trial.values[0])
        axes.plot(
            range(len(keys) + 1),
            [*heights, objective],
            color=SHADES(objective if higher else 1 - objective),
            linewidth=1.4,
            marker="o",
            markersize=3,
        )
    for x, scale in enumerate([*scales, values]):
        _draw_scale(axes, x, scale)
    axes.set_xticks(range(len(keys) + 1), [fit_text(_short(key), 82) for key in [*keys, metric_name(metric)]])
    axes.set_yticks([])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.grid(visible=False)
    axes.set(ylim=(-0.06, 1.06), xlim=(-0.2, len(keys) + 0.75))
    return figure


class _Scale:
    """Maps values to heights from 0 to 1: words at equal steps, numbers in proportion, or by their logarithm if far apart."""

    def __init__(self, values: Sequence[Any]) -> None:
        is_numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        self.words = None if is_numeric else sorted({str(value) for value in values})
        if self.words is None:
            self.low, self.high = min(values), max(values)
            self.log = self.low > 0 and self.high / self.low >= 20

    def height(self, value: Any) -> float:
        """From 0 to 1."""
        if self.words is not None:
            return self.words.index(str(value)) / max(1, len(self.words) - 1)
        if self.high == self.low:
            return 0.5
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return float((value - self.low) / (self.high - self.low))

    def ticks(self) -> list[tuple[float, str]]:
        """Heights and texts of the labels beside the axis."""
        if self.words is not None:
            return [(self.height(word), word) for word in self.words]
        ends = dict.fromkeys([self.low, self.high])
        return [(self.height(value), f"{value:.3g}") for value in ends]


def _draw_scale(axes: Axes, x: int, scale: _Scale) -> None:
    axes.plot([x, x], [0, 1], color=GREY, linewidth=0.8, zorder=0)
    for height, text in scale.ticks():
        axes.text(x + 0.06, height, fit_text(text, 60), fontsize=SMALL, color=INK, va="center", ha="left", bbox=_LABEL_BOX)


def _short(key: str) -> str:
    return key.removeprefix("params.")
