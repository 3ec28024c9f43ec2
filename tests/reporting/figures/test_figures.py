"""Figures show the numbers, cope with any names from outside, and are left out if they do not apply."""

from __future__ import annotations

import io
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from PIL import Image

from adjobs.metrics.intervals import Estimate
from adjobs.reporting import figures
from adjobs.reporting.figures.curves import histogram
from adjobs.reporting.figures.gallery import heat_scale, overlay
from adjobs.reporting.figures.style import fit_text, metric_name, with_interval
from adjobs.types import ImageScores

ESTIMATES = {"image_auroc": Estimate(0.912, 0.88, 0.94), "image_ap": Estimate(0.8), "au_pro": Estimate(0.75, 0.7, 0.8)}
HOSTILE = "a$b_{x$ \\frac\n<b> " + "very long name " * 10


def make_scores(n_normal: int = 12, n_anomalous: int = 6, *, maps: bool = True, size: int = 16) -> ImageScores:
    """Scores 0, 1, … for normal images and from half of them upwards for anomalous ones, whose lower half is the defect."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [n_normal, n_anomalous])
    scores = np.concatenate((np.arange(n_normal), np.arange(n_anomalous) + n_normal / 2)).astype(float)
    masks = np.zeros((len(labels), size, size), dtype=bool)
    masks[n_normal:, size // 2 :] = True
    heat = (rng.random(masks.shape) + masks * 0.5).astype(np.float32)
    ids = tuple(f"folder/{i:02}.png" for i in range(len(labels)))
    defects = tuple("" if not label else "crack" for label in labels)
    return ImageScores(ids, labels, scores, defects, heat if maps else None, masks if maps else None)


def pixels(figure: Figure) -> np.ndarray:
    """The drawn figure; small, so that drawing is quick."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=40)
    return np.asarray(Image.open(buffer).convert("L"))


def all_text(figure: Figure) -> str:
    """The text of a figure's legends, titles and labels."""
    texts = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    for axes in figure.axes:
        texts += [axes.get_title(loc="left"), axes.get_title(), axes.get_xlabel(), axes.get_ylabel()]
        texts += [text.get_text() for text in axes.texts]
        texts += [text.get_text() for text in axes.get_yticklabels()]
    return "\n".join([figure.get_suptitle(), *texts])


def make_metrics(counts: dict[str, int] | None = None) -> SimpleNamespace:
    estimates = {"image_recall": Estimate(0.5, 0.2, 0.8), "image_auroc": Estimate(0.7, 0.6, 0.8)}
    counts = {"crack": 6} if counts is None else counts
    return SimpleNamespace(overall=ESTIMATES, counts=counts, by_defect=dict.fromkeys(counts, estimates))


def test_of_split_complete_split_has_every_figure():
    drawn = figures.of_split(make_scores(), 8.0, "test", make_metrics())
    assert list(drawn) == ["histogram", "confusion", "roc", "pr", "pro", "defects"]
    for name, figure in drawn.items():
        assert pixels(figure).std() > 5, name


def test_of_split_without_anomalies_draws_histogram_and_confusion():
    assert set(figures.of_split(make_scores(n_anomalous=0), 8.0, "val", make_metrics({}))) == {"histogram", "confusion"}


def test_of_split_without_maps_has_no_pro_curve():
    assert "pro" not in figures.of_split(make_scores(maps=False), 8.0, "val", make_metrics())


def test_of_split_labels_have_metric_with_interval():
    drawn = figures.of_split(make_scores(), 8.0, "test", make_metrics())
    assert "image AUROC 0.912 (0.880 to 0.940)" in all_text(drawn["roc"])
    assert "image AP 0.800\n" in all_text(drawn["pr"])
    assert "AU-PRO up to 0.3 0.750 (0.700 to 0.800)" in all_text(drawn["pro"])
    assert all("95 % interval" in all_text(drawn[name]) for name in ("roc", "pr", "pro"))
    assert with_interval("image AUROC", Estimate(None, reason="no normal images")) == "image AUROC"


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


def test_defects_are_ordered_worst_on_top_with_counts():
    recall = {"dent": Estimate(1.0, 0.4, 1.0), "scratch": Estimate(0.25, 0.1, 0.6), "bend": Estimate(0.5)}
    by_defect = {name: {"image_recall": value, "image_auroc": Estimate(None, reason="none")} for name, value in recall.items()}
    figure = figures.defects({"dent": 3, "scratch": 8, "bend": 2}, by_defect, "test")
    assert figure is not None
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels == ["dent", "bend", "scratch"]  # from below
    assert [text.get_text() for text in figure.axes[0].texts] == ["3 of 3", "1 of 2", "2 of 8"]
    assert figures.defects({}, {}, "test") is None


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


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=60), st.floats(30, 200))
def test_fit_text_is_one_printable_line_and_keeps_short_text(text, width):
    fitted = fit_text(text, width)
    assert fitted.isprintable()
    assert len(fitted) <= max(3, len(text))
    if text.isascii() and text.isprintable() and len(text) < 3:
        assert fitted == text


def test_fit_text_keeps_both_ends():
    fitted = fit_text("camera-1/2026-11-22/part-00017.png", 100)
    assert fitted.startswith("camera")
    assert fitted.endswith("17.png")
    assert "…" in fitted


def image(name: str) -> np.ndarray:
    return np.full((16, 16, 3), 128, dtype=np.uint8)


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


def test_training_curves_are_in_panels_and_first_record_of_a_checkpoint_counts():
    history = {
        "train/loss": [(1, 3.0), (2, 1.5), (2, 2.0), (3, 1.0)],
        "train/level_1": [(1, 1.0), (2, 1.0), (3, 1.0)],
        "train/lr": [(1, 1e-3), (2, 1e-4), (3, 1e-5)],
        "train/images_per_s": [(1, 9.0)],
        "val/image_auroc": [(1, 0.5), (3, 0.7), (3, 0.5)],  # the model is not the last checkpoint
        "val/pixel_ap": [(3, 0.6)],
    }
    figure = figures.training(history, selected=2)
    assert figure is not None
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["Losses", "Validation", "Learning rate"]
    curves = {line.get_label(): line for axes in figure.axes for line in axes.lines if not line.get_label().startswith("_")}
    assert set(curves) == {"loss", "level 1", "image AUROC", "lr"}
    assert list(curves["loss"].get_ydata()) == [3.0, 1.5, 1.0]
    assert list(curves["image AUROC"].get_ydata()) == [0.5, 0.7]
    assert figure.axes[2].get_yscale() == "log"
    assert "the model, checkpoint 2" in figure.axes[-1].get_xlabel()
    assert pixels(figure).std() > 5


def test_training_single_checkpoint_is_a_point_and_none_is_no_figure():
    figure = figures.training({"train/loss": [(1, -0.5)]})
    assert figure is not None
    assert figure.axes[0].lines[0].get_marker() == "o"
    assert figures.training({}) is None
    assert figures.training({"train/images_per_s": [(1, 3.0)]}) is None


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("image_auroc", "image AUROC"),
        ("au_pro@0.05", "AU-PRO up to 0.05"),
        ("au_pro_small", "AU-PRO small"),
        ("au_spro_logical", "AU-sPRO logical"),
        ("image_macro_f1_at_0.5", "image macro F1 at 0.5"),
        ("image_ap_distance", "image AP distance"),
        ("something_new", "something new"),
    ],
)
def test_metric_name_is_readable(key, name):
    assert metric_name(key) == name
