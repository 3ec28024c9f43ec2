"""All figures of a split: those that apply are drawn, the others left out."""

from __future__ import annotations

from adjobs.metrics.intervals import Estimate
from adjobs.reporting import figures
from adjobs.reporting.figures.style import with_interval
from tests.helpers.figures import all_text, make_metrics, make_scores, pixels


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
