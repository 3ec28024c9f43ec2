"""What labels are worth: how well defects are located against what it costs to label them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from adjobs.metrics.intervals import Estimate
from adjobs.reporting.figures.style import BAD, GOOD, INK, MARK, PALE, canvas, legend_below

# From the cheapest to draw to the dearest.
COST = ("none", "image labels", "boxes", "blocks", "masks")
WIDTH = 0.5  # of the room that runs with the same labels share
LOOKS = ((GOOD, "o"), (BAD, "s"), (MARK, "D"), (PALE, "^"), (INK, "v"))


class Labelled(NamedTuple):
    """A run on the picture: its method, the labels that it learnt from (one of ``COST``), and its measure."""

    method: str
    labels: str
    found: Estimate


def annotation(runs: Sequence[Labelled]) -> Figure | None:
    """Pixel AP on the test images against the labels that were learnt from, a mark for each run, with its interval.

    None where all of them learnt from the same labels, or nothing was measured.
    """
    runs = [run for run in runs if run.found.value is not None and run.labels in COST]
    levels = [level for level in COST if any(run.labels == level for run in runs)]
    if len(levels) < 2:
        return None
    figure, axes = canvas(
        "What labels are worth", "labels of defects, dearer to draw from left to right", "pixel AP, test images"
    )
    looks = dict(zip(sorted({run.method for run in runs}), LOOKS * len(runs), strict=False))
    for place, level in enumerate(levels):
        here = [run for run in runs if run.labels == level]
        for i, run in enumerate(here):
            x = place + WIDTH * ((i + 0.5) / len(here) - 0.5)
            colour, mark = looks[run.method]
            value, low, high = run.found.value, run.found.low, run.found.high
            if low is not None and high is not None:
                axes.plot([x, x], [low, high], color=colour, linewidth=1.2)
            if value is not None:
                axes.plot([x], [value], mark, color=colour, markersize=6)
    for method, (colour, mark) in looks.items():
        axes.plot([], [], mark, color=colour, label=method)
    axes.set(xlim=(-0.6, len(levels) - 0.4), ylim=(0, None))
    axes.set_xticks(range(len(levels)), levels)
    axes.grid(visible=False, axis="x")
    legend_below(figure, axes)
    return figure
