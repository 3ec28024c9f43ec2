"""Figure of drift: scores of reference images and of recent images."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from adjobs.metrics.inputs import Floats
from adjobs.reporting.figures.style import BLUE, INK, RED, legend_below, new_figure


def score_distributions(reference: Floats, recent: Floats, threshold: float) -> Figure:
    """Cumulative distributions of scores ``(N,)`` and ``(M,)``, with the threshold of the detector.

    They need no bins, so that a few images and a few hundred are drawn alike; the height at the threshold is the share of images
    that raise no alarm.
    """
    figure, axes = new_figure("Anomaly scores", "anomaly score", "share of the images with a lower score", (6.4, 4.2))
    for scores, name, colour in ((reference, "reference", BLUE), (recent, "recent", RED)):
        ordered = np.sort(scores)
        shares = np.arange(1, len(ordered) + 1) / len(ordered)
        alarms = int((scores >= threshold).sum())
        axes.step(
            np.append(ordered[0], ordered),
            np.append(0, shares),
            where="post",
            color=colour,
            label=f"{len(scores)} {name} images, {alarms} of them raise an alarm",
        )
    axes.axvline(threshold, color=INK, linestyle="--", linewidth=1.2, label=f"alarm from {threshold:.4g}")
    axes.set_ylim(-0.02, 1.02)
    legend_below(figure, axes)
    return figure
