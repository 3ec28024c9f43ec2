"""The figure of what labels are worth."""

from __future__ import annotations

from adjobs.metrics.intervals import Estimate
from adjobs.reporting import figures
from adjobs.reporting.figures import LabelledRun
from tests.helpers.figures import pixels

RUNS = [LabelledRun("cdo", "none", Estimate(0.3, 0.2, 0.4)), LabelledRun("semirest", "masks", Estimate(0.5))]


def test_annotation_has_one_marker_per_run_ordered_by_cost_of_labels():
    figure = figures.annotation(RUNS[::-1])
    assert figure is not None
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["none", "masks"]
    markers = [line for line in figure.axes[0].lines if line.get_marker() not in ("", "None") and len(line.get_xdata())]
    assert [(round(line.get_xdata()[0]), line.get_ydata()[0]) for line in markers] == [(0, 0.3), (1, 0.5)]
    assert pixels(figure).std() > 5


def test_annotation_same_labels_or_undefined_metric_is_none():
    assert figures.annotation(RUNS[:1] * 2) is None
    assert figures.annotation([RUNS[0], RUNS[1]._replace(pixel_ap=Estimate(None))]) is None
    assert figures.annotation([]) is None
