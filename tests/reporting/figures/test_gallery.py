"""Galleries: which images they show, on which scale, under any file names."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.colors import Normalize

from adjobs.reporting import figures
from adjobs.reporting.figures.gallery import heat_scale, overlay
from tests.helpers.figures import all_text, image, make_metrics, make_scores, pixels

HOSTILE = "a$b_{x$ \\frac\n<b> " + "very long name " * 10


def test_galleries_hostile_names_are_one_line_and_do_not_overlap():
    scores = make_scores(n_normal=2, n_anomalous=8)
    scores = scores._replace(ids=tuple(HOSTILE + str(i) for i in range(10)), defects=("",) * 2 + (HOSTILE,) * 8)
    (hits,) = [figure for name, figure in figures.galleries(scores, -1.0, "test", image).items() if name == "hits"]
    titles = [axes.title for axes in hits.axes if axes.get_title()]
    assert len(titles) == 6
    hits.draw_without_rendering()
    boxes = [title.get_window_extent() for title in titles]
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
    assert all(title.get_text().count("\n") == 2 for title in titles)
    bars = figures.defects({HOSTILE: 1}, make_metrics({HOSTILE: 1}).by_defect, "test")
    assert bars is not None
    assert "$" in all_text(bars)
    pixels(bars)


def test_galleries_show_worst_errors_on_one_scale():
    scores = make_scores()
    drawn = figures.galleries(scores, 8.0, "test", image)
    assert list(drawn) == ["misses", "false_alarms", "hits"]
    assert "Worst misses\ntest images, alarm from 8" in all_text(drawn["misses"])
    assert [t for t in all_text(drawn["misses"]).split("\n") if t.endswith(".png")] == ["12.png", "13.png"]  # scores 6 and 7
    assert [t for t in all_text(drawn["false_alarms"]).split("\n") if t.endswith(".png")] == [
        f"{i:02}.png" for i in (11, 10, 9, 8)
    ]
    limits = {
        shown.get_clim()
        for figure in drawn.values()
        for axes in figure.axes
        for shown in axes.images
        if shown.get_cmap().name == "inferno" and shown.get_array().ndim == 2
    }
    assert limits == {heat_scale(scores.anomaly_maps)}
    assert "ground truth" in all_text(drawn["misses"])
    assert "ground truth" not in all_text(drawn["false_alarms"])  # normal images have none
    assert pixels(drawn["misses"]).std() > 5


def test_galleries_without_maps_show_images():
    drawn = figures.galleries(make_scores(maps=False), 8.0, "test", image)
    assert "image" in all_text(drawn["hits"])
    assert "heat map" not in all_text(drawn["hits"])


def test_galleries_without_errors_are_empty():
    assert list(figures.galleries(make_scores(n_normal=3, n_anomalous=0), 100.0, "test", image)) == []


def test_overlay_keeps_cold_pixels_and_covers_hot_ones():
    heat = np.array([[0.0, 1.0]])
    blended = overlay(np.full((1, 2, 3), 51, dtype=np.uint8), heat, Normalize(0, 1, clip=True))
    assert blended[0, 0] == pytest.approx([0.2] * 3)
    assert np.abs(blended[0, 1] - 0.2).max() > 0.4


def test_gallery_full_mask_is_outlined_without_warning(recwarn):
    case = figures.Case("a.png", image("a"), np.ones((16, 16)), np.ones((16, 16), dtype=bool))
    pixels(figures.gallery([case], "All", (0.0, 1.0)))
    assert not [warning for warning in recwarn if "contour" in str(warning.message)]
