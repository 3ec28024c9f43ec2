"""Metrics by name: values equal those of the plain functions, intervals contain them, undefined ones have a reason."""

import numpy as np
import pytest

from adjobs.metrics import binned, ranking, summary
from adjobs.metrics.binned import count_pixels
from adjobs.metrics.pixel import exact_pixel_metrics
from adjobs.metrics.region import au_pro
from tests.helpers.oracles import slow_area, slow_pro_curve
from tests.helpers.scores import random_maps, random_scores

AT_THRESHOLD = ("f1", "accuracy", "precision", "recall", "specificity")


def types_of(masks, names):
    anomalous = iter(range(len(masks)))
    return ["" if not mask.any() else names[next(anomalous) % len(names)] for mask in masks]


def test_image_metrics_equal_plain_functions_with_intervals():
    labels, scores = random_scores(0)
    metrics = summary.image_metrics(labels, scores, 0.7)
    plain = {
        "image_auroc": ranking.auroc(labels, scores),
        "image_ap": ranking.average_precision(labels, scores),
        "image_f1max": ranking.f1_max(labels, scores)[0],
        **{f"image_{name}": getattr(ranking, name)(labels, scores >= 0.7) for name in AT_THRESHOLD},
    }
    assert {name: estimate.value for name, estimate in metrics.items()} == pytest.approx(plain)
    for name, estimate in metrics.items():
        assert 0 <= estimate.low < estimate.value < estimate.high <= 1, name
        assert estimate.high - estimate.low < 0.5, name
        assert estimate.reason == "", name
    without = summary.image_metrics(labels, scores, None)
    assert without == {name: metrics[name] for name in ("image_auroc", "image_ap", "image_f1max")}


def test_image_metrics_intervals_depend_on_confidence_and_seed():
    labels, scores = random_scores(1)
    wide, narrow = (summary.image_metrics(labels, scores, 0.7, confidence=c) for c in (0.99, 0.8))
    for name in wide:
        assert wide[name].low < narrow[name].low <= narrow[name].high < wide[name].high, name
    same_seed, other = (summary.image_metrics(labels, scores, 0.7, confidence=0.8, seed=seed) for seed in (0, 1))
    assert same_seed == narrow
    assert other["image_ap"] != narrow["image_ap"]


def test_image_metrics_ap_interval_has_nominal_coverage():
    """200 test sets; the true AP is that of 200,000 images with the same share of anomalies."""
    truth = ranking.average_precision(*random_scores(10**6, 80_000, 120_000))
    covered = 0
    for seed in range(200):
        estimate = summary.image_metrics(*random_scores(seed, 32, 48), None, resamples=200)["image_ap"]
        covered += estimate.low <= truth <= estimate.high
    assert 0.87 < covered / 200 < 0.99


def test_image_metrics_perfect_separation_has_lower_end_below_one():
    labels = np.repeat([1, 0], [20, 30])
    for name, estimate in summary.image_metrics(labels, labels * 1.0, 0.5).items():
        assert (estimate.value, estimate.high) == (1, 1), name
        assert 0.4 < estimate.low < 1, name


def test_image_metrics_nothing_detected_is_zero_with_upper_end():
    labels, scores = random_scores(2)
    metrics = summary.image_metrics(labels, scores, 100.0)
    assert metrics["image_f1"][:2] == (0, 0)
    assert 0 < metrics["image_f1"].high == pytest.approx(2 * metrics["image_recall"].high / (1 + metrics["image_recall"].high))
    assert metrics["image_precision"] == (None, None, None, "no alarms")


@pytest.mark.parametrize(
    ("labels", "reason", "defined"),
    [
        ([], "no images", set()),
        ([0, 0, 0], "no anomalous images", {"image_accuracy", "image_specificity"}),
        ([1, 1, 1], "no normal images", {"image_accuracy", "image_recall"}),
    ],
)
def test_image_metrics_undefined_have_reason(labels, reason, defined):
    metrics = summary.image_metrics(labels, np.arange(len(labels)), 1.0)
    assert {name for name, estimate in metrics.items() if estimate.value is not None} == defined
    undefined = {name: estimate for name, estimate in metrics.items() if name not in defined}
    for name, estimate in undefined.items():
        assert estimate.low is None, name
        assert estimate.reason in (reason, "no anomalous images", "no normal images"), name
    assert metrics["image_ap"].reason == metrics["image_auroc"].reason == reason


def test_image_metrics_single_images_have_no_interval():
    metrics = summary.image_metrics([0, 0, 0, 1], [1, 2, 4, 3], 2.5)
    for name in ("image_auroc", "image_ap", "image_f1max", "image_f1"):
        assert metrics[name][1:] == (None, None, "fewer than 2 anomalous images"), name
    assert metrics["image_f1"].value == pytest.approx(2 / 3)
    assert metrics["image_recall"].low == pytest.approx(0.025)  # of 1 image, exact


def test_image_metrics_by_defect_compare_with_all_normal_images():
    labels, scores = random_scores(3, 9, 20)
    defects = [*"abcabcab", "", *["a"] * 20]  # ignored for normal images
    by_defect = summary.image_metrics_by_defect(labels, scores, defects, 0.5, resamples=100)
    assert list(by_defect) == ["a", "b", "c", "untyped"]
    for name in "ab":
        images = [i for i in range(29) if i >= 9 or defects[i] == name]
        metrics = by_defect[name]
        assert metrics["image_auroc"].value == pytest.approx(ranking.auroc(labels[images], scores[images]))
        assert metrics["image_ap"].value == pytest.approx(ranking.average_precision(labels[images], scores[images]))
        assert metrics["image_recall"].value == ranking.recall(labels[images], scores[images] >= 0.5)
        assert metrics["image_ap"].low < metrics["image_ap"].value
    assert by_defect["untyped"]["image_ap"].reason == "fewer than 2 anomalous images"
    assert set(summary.image_metrics_by_defect(labels, scores, defects, None, resamples=10)["a"]) == {"image_auroc", "image_ap"}


def test_image_metrics_by_defect_without_normal_images_are_undefined():
    metrics = summary.image_metrics_by_defect([1, 1], [1, 2], ["a", "b"], 1.5)
    assert metrics["a"]["image_auroc"] == metrics["a"]["image_ap"] == (None, None, None, "no normal images")
    assert metrics["b"]["image_recall"].value == 1.0
    assert summary.image_metrics_by_defect([0, 0], [1, 2], ["", ""], 1.5) == {}
    with pytest.raises(ValueError, match="defects: got 1 types for 2 images, need one for each"):
        summary.image_metrics_by_defect([1, 1], [1, 2], ["a"], 1.5)


@pytest.mark.parametrize("typed", [False, True])
def test_pixel_metrics_are_exact_with_intervals(typed):
    maps, masks = random_maps(0)
    defects = types_of(masks, "abb") if typed else None
    metrics = summary.pixel_metrics(maps, masks, 1.0, defects=defects, limits=(0.3, 0.05), resamples=200)
    plain = exact_pixel_metrics(maps, masks, (0.3, 0.05))
    slow = slow_pro_curve(maps, masks, has_size=lambda area: area == 16)
    expected = {
        "pixel_auroc": plain.auroc,
        "pixel_ap": plain.ap,
        "pixel_f1max": plain.f1_max,
        "au_pro": plain.au_pro[0.3],
        "au_pro@0.05": plain.au_pro[0.05],
        "au_pro_small": None,
        "au_pro_medium": slow_area(slow_pro_curve(maps, masks, has_size=lambda area: area == 2), 0.3),
        "au_pro_large": slow_area(slow, 0.3),
        "pixel_f1": ranking.f1(masks.ravel(), maps.ravel() >= 1),
        "pixel_precision": ranking.precision(masks.ravel(), maps.ravel() >= 1),
        "pixel_recall": ranking.recall(masks.ravel(), maps.ravel() >= 1),
    }
    values = {name: estimate.value for name, estimate in metrics.items()}
    assert values.pop("au_pro_small") is expected.pop("au_pro_small") is None
    assert metrics["au_pro_small"].reason == "no regions of this size"
    assert values == pytest.approx(expected, abs=1e-12)
    for name in expected:
        assert 0 <= metrics[name].low < metrics[name].value < metrics[name].high <= 1, name
    fewer = summary.pixel_metrics(maps, masks, None, defects=defects, limits=(0.05,), resamples=200)
    assert fewer == {
        name: estimate for name, estimate in metrics.items() if not (name == "au_pro" or name in summary.PIXEL_DECISION_METRICS)
    }


def test_pixel_metrics_types_of_one_image_are_resampled_together():
    maps, masks = random_maps(7)
    single = summary.pixel_metrics(maps, masks, 1.0, defects=types_of(masks, "abcdefg"), resamples=30)
    assert single == summary.pixel_metrics(maps, masks, 1.0, resamples=30)
    assert single != summary.pixel_metrics(maps, masks, 1.0, defects=types_of(masks, "ab"), resamples=30)


def test_pixel_metrics_intervals_are_shifted_to_exact_values(monkeypatch):
    """With few thresholds the values of the table are far off."""
    maps, masks = random_maps(8, size=40)
    fine = summary.pixel_metrics(maps, masks, None, resamples=200)
    monkeypatch.setattr(binned, "_THRESHOLDS", 24)
    binned_values = count_pixels(maps, masks).metrics(np.ones((1, 14)), (0.3,))
    assert abs(binned_values["pixel_ap"][0] - fine["pixel_ap"].value) > 0.03
    coarse = summary.pixel_metrics(maps, masks, None, resamples=200)
    for name in binned_values:
        assert coarse[name].value == fine[name].value
        assert coarse[name][1:3] == pytest.approx(fine[name][1:3], abs=0.03), name


def test_pixel_metrics_au_pro_interval_has_nominal_coverage():
    """25 test sets; the true AU-PRO is that of 1,000 images."""
    truth = au_pro(*random_maps(10**6, images=1000, size=16))
    metrics = [summary.pixel_metrics(*random_maps(seed, images=30, size=16), None, resamples=60)["au_pro"] for seed in range(25)]
    assert 0.8 < np.mean([estimate.low <= truth <= estimate.high for estimate in metrics]) <= 1


def test_pixel_metrics_image_order_does_not_matter():
    maps, masks = random_maps(2)
    order = np.random.default_rng(0).permutation(len(maps))
    estimate, other = (summary.pixel_metrics(maps[i], masks[i], 1.0, resamples=50) for i in (slice(None), order))
    for name in estimate:
        assert estimate[name].value == pytest.approx(other[name].value, abs=1e-12), name


def test_pixel_metrics_by_defect_equal_metrics_of_its_and_normal_images():
    maps, masks = random_maps(3)
    defects = types_of(masks, ["a", "b", "", "b"])
    metrics = summary.pixel_metrics_by_defect(maps, masks, defects, limits=(0.3, 0.1), resamples=50)
    assert list(metrics) == ["a", "b", "untyped"]
    normal = [i for i in range(14) if not masks[i].any()]
    for defect, name in (("a", "a"), ("b", "b"), ("", "untyped")):
        images = normal + [i for i in range(14) if masks[i].any() and defects[i] == defect]
        plain = exact_pixel_metrics(maps[images], masks[images], (0.3, 0.1))
        values = {key: estimate.value for key, estimate in metrics[name].items()}
        assert values == pytest.approx({"pixel_ap": plain.ap, "au_pro": plain.au_pro[0.3], "au_pro@0.1": plain.au_pro[0.1]})
        assert metrics[name]["pixel_ap"].low < plain.ap < metrics[name]["pixel_ap"].high


def test_pixel_metrics_by_defect_single_image_has_no_interval_and_empty_mask_no_value():
    maps, masks = random_maps(4)
    defects = types_of(masks, "aaaaaab")
    defects[0] = "lost"  # an anomaly whose mask is empty at this size
    metrics = summary.pixel_metrics_by_defect(maps, masks, defects, resamples=20)
    assert metrics["b"]["au_pro"].reason == "such defects in fewer than 2 images"
    assert metrics["b"]["au_pro"].value > 0
    assert metrics["lost"]["au_pro"] == metrics["lost"]["pixel_ap"] == (None, None, None, "no defect pixels")


@pytest.mark.parametrize(
    ("images", "value", "reason"), [(0, False, "no images"), (2, False, "no defect pixels"), (2, True, "no defect-free pixels")]
)
def test_pixel_metrics_undefined_have_reason(images, value, reason):
    maps = np.zeros((images, 4, 4), dtype=np.float32)
    metrics = summary.pixel_metrics(maps, np.full(maps.shape, value), 0.5, limits=(0.3, 0.05))
    assert set(metrics.values()) == {(None, None, None, reason)}
    assert set(metrics) >= {"pixel_auroc", "au_pro@0.05", "au_pro_small", "pixel_precision"}


def test_pixel_metrics_missing_predictions_and_regions_have_reason():
    maps, masks = random_maps(5)
    metrics = summary.pixel_metrics(maps, masks, 1e6, resamples=20)
    assert metrics["pixel_precision"] == (None, None, None, "no pixels predicted defective")
    assert metrics["pixel_f1"] == (0, None, None, "every resample gives the same value")
    masks[8:] = False
    metrics = summary.pixel_metrics(maps, masks, 1.0, resamples=20)
    assert {estimate.reason for estimate in metrics.values()} == {
        "such defects in fewer than 2 images",
        "no regions of this size",
    }
    assert metrics["pixel_f1"].value > 0


def test_pixel_metrics_invalid_arguments_are_refused():
    maps, masks = random_maps(6)
    for call in (summary.pixel_metrics, summary.pixel_metrics_by_defect):
        with pytest.raises(ValueError, match="limit: got 2, allowed"):
            call(maps, masks, [""] * 14 if call is summary.pixel_metrics_by_defect else None, limits=(2,))
    with pytest.raises(ValueError, match="defects: got 3 types for 14 images"):
        summary.pixel_metrics(maps, masks, None, defects=["a"] * 3)
