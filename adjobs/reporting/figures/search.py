"""Pictures of a search: how it went, what its trials had in common, what mattered, and what stands against what."""

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
    BAD,
    DPI,
    GOOD,
    INK,
    MARK,
    PALE,
    PALE_GOOD,
    SMALL,
    canvas,
    fit,
    legend_below,
    measure_name,
    plain,
)

PAPER = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.5}
MOST_AXES = 12  # of the parallel coordinates; the keys that matter most
SHADES = LinearSegmentedColormap.from_list("search", ["#dddddd", PALE_GOOD, GOOD])


class Tried(NamedTuple):
    """A trial on a picture: its number, its keys and values, what became of it, and its objectives (empty: not measured)."""

    number: int
    point: Mapping[str, Any]
    outcome: str
    values: tuple[float, ...]
    reached: float | None = None  # the first objective where it was stopped


def of_search(
    tried: Sequence[Tried], metrics: Sequence[str], higher: Sequence[bool], importance: Mapping[str, float], front: Sequence[int]
) -> dict[str, Figure]:
    """All pictures of a search, by name; those that have no sense for it are left out.

    Args:
        tried: the trials.
        metrics: names of the objectives; the first chooses.
        higher: whether more is better, for each.
        importance: share of the first objective that each key explains.
        front: numbers of the trials that no other beats.
    """
    drawn = {
        "history": history(tried, metrics[0], higher=higher[0]),
        "parallel": parallel(tried, metrics[0], importance, higher=higher[0]),
        "importance": shares(importance, metrics[0]),
        "pareto": pareto(tried, metrics, front) if len(metrics) > 1 else None,
    }
    return {name: figure for name, figure in drawn.items() if figure is not None}


def history(tried: Sequence[Tried], metric: str, *, higher: bool) -> Figure | None:
    """The first objective of each trial in the order of starting, and the best so far."""
    name = measure_name(metric)
    figure, axes = canvas("The search", "trial", f"{name}, validation", (7.0, 4.4))
    ended = [(one.number, one.values[0]) for one in tried if one.values]
    stopped = [(one.number, one.reached) for one in tried if one.outcome == "stopped early" and one.reached is not None]
    lost = [one.number for one in tried if one.outcome in ("failed", "out of memory")]
    if not ended:
        return None
    if stopped:
        axes.plot(*zip(*stopped, strict=True), "x", color=PALE, markersize=5, label="stopped early, where it stood")
    axes.plot(*zip(*ended, strict=True), "o", color=GOOD, markersize=5, label="finished")
    best = (np.maximum if higher else np.minimum).accumulate([value for _, value in ended])
    last = max(one.number for one in tried)
    axes.step([*(n for n, _ in ended), last], [*best, best[-1]], where="post", color=MARK, label="best so far")
    for number in lost:
        axes.axvline(number, color=BAD, linewidth=0.8, alpha=0.6, label="failed" if number == lost[0] else None)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_below(figure, axes)
    return figure


def shares(importance: Mapping[str, float], metric: str) -> Figure | None:
    """What each key explains of the first objective, as bars; None where nothing is known."""
    if not importance:
        return None
    rows = sorted(importance.items(), key=lambda item: item[1])
    figure, axes = canvas("What mattered", f"share of the variance of {measure_name(metric)}", "", (7.0, 0.9 + 0.32 * len(rows)))
    axes.barh([fit(_short(key), 150) for key, _ in rows], [value for _, value in rows], color=GOOD, height=0.6)
    axes.set_xlim(0, 1)
    axes.grid(visible=False, axis="y")
    return figure


def pareto(tried: Sequence[Tried], metrics: Sequence[str], front: Sequence[int]) -> Figure | None:
    """The first objective against the second; those that no other trial beats are joined."""
    points = [one for one in tried if one.values]
    if not points:
        return None
    figure, axes = canvas(
        "One against the other", measure_name(metrics[1]), f"{measure_name(metrics[0])}, validation", (6.2, 5.0)
    )
    axes.plot([p.values[1] for p in points], [p.values[0] for p in points], "o", color=PALE_GOOD, markersize=5, label="trials")
    best = sorted((p for p in points if p.number in front), key=lambda p: p.values[1])
    axes.plot([p.values[1] for p in best], [p.values[0] for p in best], "-o", color=GOOD, markersize=6, label="not beaten in all")
    for one in best:
        axes.annotate(
            str(one.number),
            (one.values[1], one.values[0]),
            xytext=(5, 5),
            textcoords="offset points",
            fontsize=SMALL,
        )
    legend_below(figure, axes)
    return figure


def parallel(tried: Sequence[Tried], metric: str, importance: Mapping[str, float], *, higher: bool) -> Figure | None:
    """Each finished trial as a line over the keys in which they differ, the better the darker; None for fewer than two."""
    ended = sorted((one for one in tried if one.values), key=lambda one: one.values[0])
    keys = [
        key for key in dict.fromkeys(key for one in ended for key in one.point) if len({one.point.get(key) for one in ended}) > 1
    ]
    keys = sorted(keys, key=lambda key: -importance.get(key, 0.0))[:MOST_AXES]
    if len(ended) < 2 or len(keys) < 2:
        return None
    figure = Figure(figsize=(max(7.0, 1.25 * (len(keys) + 1)), 4.8), dpi=DPI, layout="constrained")
    axes = plain(figure.subplots(), "What the trials had", "", "")
    scales = [_Scale([one.point[key] for one in ended if key in one.point]) for key in keys]
    values = _Scale([one.values[0] for one in ended])
    for one in ended:
        heights = [
            scale.height(one.point[key]) if key in one.point else math.nan for key, scale in zip(keys, scales, strict=True)
        ]
        goal = values.height(one.values[0])
        axes.plot(
            range(len(keys) + 1),
            [*heights, goal],
            color=SHADES(goal if higher else 1 - goal),
            linewidth=1.4,
            marker="o",
            markersize=3,
        )
    for x, scale in enumerate([*scales, values]):
        _draw_scale(axes, x, scale)
    axes.set_xticks(range(len(keys) + 1), [fit(_short(key), 82) for key in [*keys, measure_name(metric)]])
    axes.set_yticks([])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.grid(visible=False)
    axes.set(ylim=(-0.06, 1.06), xlim=(-0.2, len(keys) + 0.75))
    return figure


class _Scale:
    """Where values stand between 0 and 1: words at equal steps, numbers in proportion, or by their logarithm if far apart."""

    def __init__(self, values: Sequence[Any]) -> None:
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        self.words = None if numbers else sorted({str(value) for value in values})
        if self.words is None:
            self.low, self.high = min(values), max(values)
            self.log = self.low > 0 and self.high / self.low >= 20

    def height(self, value: Any) -> float:
        if self.words is not None:
            return self.words.index(str(value)) / max(1, len(self.words) - 1)
        if self.high == self.low:
            return 0.5
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return float((value - self.low) / (self.high - self.low))

    def marks(self) -> list[tuple[float, str]]:
        """Heights and words of what to write beside the axis."""
        if self.words is not None:
            return [(self.height(word), word) for word in self.words]
        ends = dict.fromkeys([self.low, self.high])
        return [(self.height(value), f"{value:.3g}") for value in ends]


def _draw_scale(axes: Axes, x: int, scale: _Scale) -> None:
    axes.plot([x, x], [0, 1], color=PALE, linewidth=0.8, zorder=0)
    for height, word in scale.marks():
        axes.text(x + 0.06, height, fit(word, 60), fontsize=SMALL, color=INK, va="center", ha="left", bbox=PAPER)


def _short(key: str) -> str:
    return key.removeprefix("params.")
