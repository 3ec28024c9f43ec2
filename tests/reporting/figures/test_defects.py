"""Bars of the defect types."""

from __future__ import annotations

from adjobs.metrics.intervals import Estimate
from adjobs.reporting import figures


def test_defects_are_ordered_worst_on_top_with_counts():
    recall = {"dent": Estimate(1.0, 0.4, 1.0), "scratch": Estimate(0.25, 0.1, 0.6), "bend": Estimate(0.5)}
    by_defect = {name: {"image_recall": value, "image_auroc": Estimate(None, reason="none")} for name, value in recall.items()}
    figure = figures.defects({"dent": 3, "scratch": 8, "bend": 2}, by_defect, "test")
    assert figure is not None
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels == ["dent", "bend", "scratch"]  # from below
    assert [text.get_text() for text in figure.axes[0].texts] == ["3 of 3", "1 of 2", "2 of 8"]
    assert figures.defects({}, {}, "test") is None
