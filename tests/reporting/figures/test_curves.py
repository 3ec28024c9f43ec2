"""Histogram, ROC, precision and recall, confusion matrix: what they show."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adjobs.reporting import figures
from adjobs.reporting.figures.curves import histogram
from adjobs.types import ImageScores
from tests.helpers.figures import ESTIMATES, all_text, make_scores


def test_roc_and_pr_dot_is_at_rates_of_threshold():
    scores = make_scores()  # normal 0 to 11, anomalous 6 to 11: from 8 on, 4 of 12 normal and 4 of 6 anomalous ones
    for draw, position in ((figures.roc, (4 / 12, 4 / 6)), (figures.pr, (4 / 6, 4 / 8))):
        figure = draw(scores, 8.0, "test", ESTIMATES)
        assert figure is not None
        (dot,) = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
        assert (dot.get_xdata()[0], dot.get_ydata()[0]) == pytest.approx(position)
    assert "66.7 % detected, 50.0 % of alarms correct" in all_text(figure)


def test_pr_without_alarms_has_no_dot():
    figure = figures.pr(make_scores(), 100.0, "test", ESTIMATES)
    assert figure is not None
    assert not [line for line in figure.axes[0].lines if line.get_marker() == "o"]


def test_confusion_shows_counts_and_shares():
    text = all_text(figures.confusion(make_scores(), 8.0, "test"))
    for expected in ("8", "passed, 66.7 %", "4", "false alarms, 33.3 %", "2", "missed, 33.3 %", "detected, 66.7 %"):
        assert f"\n{expected}" in text
    normal_alone = make_scores()._replace(labels=np.zeros_like(make_scores().labels))
    assert "missed," not in all_text(figures.confusion(normal_alone, 8.0, "test"))


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-1e3, 1e6), st.integers(0, 1)), min_size=1, max_size=12),
    st.floats(-1e3, 1e6),
    st.booleans(),
)
def test_histogram_every_image_is_in_a_bar_on_its_side_of_the_threshold(pairs, other, positive):
    values = np.array([abs(value) + 1e-3 if positive else value for value, _ in pairs])
    labels = np.array([label for _, label in pairs])
    threshold = other if len(pairs) % 2 else float(values[0])
    scores = ImageScores(tuple(map(str, values)), labels, values, ("",) * len(pairs), None, None)
    figure = histogram(scores, threshold, "test")
    assert figure is not None
    for axes, label in zip(figure.axes, (0, 1), strict=True):
        drawn = [bar for bar in axes.patches if hasattr(bar, "get_x") and bar.get_facecolor()[3] == 1]  # without the shade
        bars = [(bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in drawn]
        of_class = values[labels == label]
        assert sum(height for _, height in bars) == len(of_class)
        if axes.get_xlim()[0] <= threshold <= axes.get_xlim()[1]:
            assert sum(height for x, height in bars if x >= threshold) == (of_class >= threshold).sum()
        assert f"{len(of_class)} {'anomalous' if label else 'normal'}, {(of_class >= threshold).sum()} of them" in axes.get_title(
            loc="left"
        )


def test_histogram_distant_threshold_does_not_stretch_axis():
    figure = histogram(make_scores(), 1e9, "test")
    assert figure is not None
    assert figure.axes[0].get_xlim()[1] < 100
    assert "outside the figure" in figure.axes[1].get_xlabel()
