"""What labels are worth: how well defects are located against how much the labels cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from adjobs.metrics.intervals import Estimate
from adjobs.reporting.figures.style import BLUE, GREY, INK, RED, YELLOW, legend_below, new_figure

# From the cheapest labels to the most expensive ones.
LABELS = ("none", "image labels", "boxes", "blocks", "masks")
WIDTH = 0.5  # of the space shared by runs with the same labels
MARKERS = ((BLUE, "o"), (RED, "s"), (YELLOW, "D"), (GREY, "^"), (INK, "v"))


class LabelledRun(NamedTuple):
    """A run in the figure: its method, the labels that it learned from (one of `LABELS`), and its pixel AP."""

    method: str
    labels: str
    pixel_ap: Estimate


def annotation(runs: Sequence[LabelledRun]) -> Figure | None:
    """Pixel AP on the test images against the labels of training, one marker per run, with its interval.

    None if all of them learned from the same labels, or no pixel AP is known.
    """
    runs = [run for run in runs if run.pixel_ap.value is not None and run.labels in LABELS]
    levels = [level for level in LABELS if any(run.labels == level for run in runs)]
    if len(levels) < 2:
        return None
    figure, axes = new_figure(
        "What labels are worth", "labels of defects, more expensive from left to right", "pixel AP, test images"
    )
    markers = dict(zip(sorted({run.method for run in runs}), MARKERS * len(runs), strict=False))
    for position, level in enumerate(levels):
        of_level = [run for run in runs if run.labels == level]
        for i, run in enumerate(of_level):
            x = position + WIDTH * ((i + 0.5) / len(of_level) - 0.5)
            colour, marker = markers[run.method]
            value, low, high, _ = run.pixel_ap
            if low is not None and high is not None:
                axes.plot([x, x], [low, high], color=colour, linewidth=1.2)
            if value is not None:
                axes.plot([x], [value], marker, color=colour, markersize=6)
    for method, (colour, marker) in markers.items():
        axes.plot([], [], marker, color=colour, label=method)
    axes.set(xlim=(-0.6, len(levels) - 0.4), ylim=(0, None))
    axes.set_xticks(range(len(levels)), levels)
    axes.grid(visible=False, axis="x")
    legend_below(figure, axes)
    return figure
