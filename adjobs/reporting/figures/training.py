"""The history of a training: losses, validation metrics and learning rates by checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from adjobs.reporting.figures.style import BLUE, DPI, GREY, INK, RED, SMALL, YELLOW, metric_name, style_axes

History = Mapping[str, Sequence[tuple[int, float]]]
"""Values of each metric as ``(checkpoint, value)``, as in MLflow's history."""

LOG_FROM = 20.0  # largest loss over smallest from which an axis is logarithmic
_NOT_LOSSES = ("images_per_s", "peak_memory_mib", "selected_checkpoint")
_COLOURS = (BLUE, RED, YELLOW, GREY)
_DASHES = ("-", "--", "-.", ":")


def training(history: History, selected: int | None = None) -> Figure | None:
    """Panels of the losses, the validation metrics and the learning rates; None if no checkpoint was recorded.

    Args:
        history: metrics named as a run names them, ``train/…`` and ``val/…``.
        selected: the checkpoint that became the model; it gets a line.
    """
    panels = {title: curves for title, curves in _curves_by_panel(history).items() if curves}
    if not panels:
        return None
    figure = Figure(figsize=(7.6, 0.5 + 2.5 * len(panels)), dpi=DPI, layout="constrained")
    grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (title, curves) in zip(grid, panels.items(), strict=True):
        style_axes(axes, title)
        _draw(axes, curves)
        if selected is not None:
            axes.axvline(selected, color=GREY, linewidth=1, linestyle="--", zorder=0)
        if title != "Validation":
            _scale(axes, curves)
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.03), frameon=False, fontsize=SMALL, labelcolor=INK)
    label = "checkpoint" if selected is None else f"checkpoint; the dashed line is the model, checkpoint {selected}"
    grid[-1].set_xlabel(label, fontsize=9.5)
    grid[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _curves_by_panel(history: History) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Curves by panel. If a checkpoint was recorded twice, the first record counts: the last one's second is of the model."""
    series = {name: sorted(dict(reversed(points)).items()) for name, points in history.items() if points}
    losses, rates, validation = {}, {}, {}
    for name, points in sorted(series.items(), key=lambda item: (item[0].split("/")[-1] != "loss", item[0])):
        prefix, _, metric = name.partition("/")
        last = metric.split("/")[-1]
        if prefix == "val":
            validation[metric] = points
        elif prefix == "train" and (last == "lr" or last.startswith("lr_")):
            rates[metric] = points
        elif prefix == "train" and last not in _NOT_LOSSES:
            losses[metric] = points
    # Metrics at the threshold are recorded once, at the end: a single point is no curve.
    longest = max(map(len, validation.values()), default=0)
    validation = {name: points for name, points in validation.items() if len(points) == longest or len(points) > 1}
    return {"Losses": losses, "Validation": validation, "Learning rate": rates}


def _draw(axes: Axes, curves: Mapping[str, list[tuple[int, float]]]) -> None:
    styles = cycle([(colour, dashes) for dashes in _DASHES for colour in _COLOURS])
    for (name, points), (colour, dashes) in zip(curves.items(), styles, strict=False):
        is_total = name.split("/")[-1] == "loss"
        axes.plot(
            [step for step, _ in points],
            [value for _, value in points],
            color=colour,
            linestyle=dashes,
            linewidth=2.0 if is_total else 1.3,
            marker="o" if len(points) < 12 else "",
            markersize=3.5,
            label=metric_name(name),
        )


def _scale(axes: Axes, curves: Mapping[str, list[tuple[int, float]]]) -> None:
    values = [value for points in curves.values() for _, value in points]
    if min(values) > 0 and max(values) > LOG_FROM * min(values):
        axes.set_yscale("log")
    elif max(map(abs, values)) < 0.01:
        axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
        axes.yaxis.get_offset_text().set(fontsize=SMALL, color=INK)
