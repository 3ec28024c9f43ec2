"""The figure of both score distributions."""

from __future__ import annotations

import numpy as np
import pytest

from adjobs.reporting.figures.drift import score_distributions


def test_score_distributions_end_at_one_and_count_alarms():
    figure = score_distributions(np.array([3.0, 1.0, 2.0]), np.array([4.0, 1.5]), 2.5)
    (axes,) = figure.axes
    reference, recent, threshold = axes.lines
    assert reference.get_xdata().tolist() == [1, 1, 2, 3]
    assert reference.get_ydata().tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert recent.get_label() == "2 recent images, 1 of them raise an alarm"
    assert threshold.get_label() == "alarm from 2.5"
