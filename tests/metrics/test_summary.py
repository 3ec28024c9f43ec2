"""Summaries: the values are those of the plain functions, the intervals fit them, and what is undefined says why."""

import numpy as np
import pytest

from adjobs.metrics import binned, ranking, summary
from adjobs.metrics.binned import count_pixels
from adjobs.metrics.order import rank
from adjobs.metrics.pixel import exact_pixel_metrics
from adjobs.metrics.region import SIZES, area_under, au_pro, find_regions, pro_from_ranks
from tests.helpers.oracles import slow_area, slow_pro_curve
from tests.metrics.test_intervals import sample

AT_THRESHOLD = ("f1", "accuracy", "precision", "sensitivity", "specificity")


def pictures(seed, images=14, size=24, strength=2.0):
    """Good images, then images with a region of 16 pixels and, every other one, one of 2 pixels."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((images, size, size), dtype=bool)
    masks[images // 2 :, 3:7, 4:8] = True
    masks[images // 2 :: 2, 15, 10:12] = True
    maps = rng.normal(size=masks.shape) + strength * masks * rng.uniform(0.5, 1.5, (images, 1, 1))
    return maps.astype(np.float32), masks


def types_of(masks, names):
    bad = iter(range(len(masks)))
    return ["" if not mask.any() else names[next(bad) % len(names)] for mask in masks]


def test_image_measures_are_the_plain_ones_with_intervals():
    labels, scores = sample(0)
    found = summary.image_metrics(labels, scores, 0.7)
    plain = {
        "image_auroc": ranking.auroc(labels, scores),
        "image_ap": ranking.average_precision(labels, scores),
        "image_f1max": ranking.f1_max(labels, scores)[0],
        **{f"image_{name}": getattr(ranking, name)(labels, scores >= 0.7) for name in AT_THRESHOLD},
    }
    assert {name: one.value for name, one in found.items()} == pytest.approx(plain)
    for name, one in found.items():
        assert 0 <= one.low < one.value < one.high <= 1, name
        assert one.high - one.low < 0.5, name
        assert one.reason == "", name
    without = summary.image_metrics(labels, scores, None)
    assert without == {name: found[name] for name in ("image_auroc", "image_ap", "image_f1max")}


def test_image_intervals_follow_confidence_and_seed():
    labels, scores = sample(1)
    wide, narrow = (summary.image_metrics(labels, scores, 0.7, confidence=c) for c in (0.99, 0.8))
    for name in wide:
        assert wide[name].low < narrow[name].low <= narrow[name].high < wide[name].high, name
    again, other = (summary.image_metrics(labels, scores, 0.7, confidence=0.8, seed=seed) for seed in (0, 1))
    assert again == narrow
    assert other["image_ap"] != narrow["image_ap"]


def test_bootstrap_interval_of_ap_holds_about_as_often_as_it_says():
    """200 test sets; what AP tends to is taken from one of 200,000 images of the same share of anomalies."""
    truth = ranking.average_precision(*sample(10**6, 80_000, 120_000))
    held = 0
    for seed in range(200):
        found = summary.image_metrics(*sample(seed, 32, 48), None, resamples=200)["image_ap"]
        held += found.low <= truth <= found.high
    assert 0.87 < held / 200 < 0.99


def test_perfect_images_get_a_lower_end_below_one():
    labels = np.repeat([1, 0], [20, 30])
    for name, one in summary.image_metrics(labels, labels * 1.0, 0.5).items():
        assert (one.value, one.high) == (1, 1), name
        assert 0.4 < one.low < 1, name


def test_no_anomaly_found_is_zero_with_an_upper_end():
    labels, scores = sample(2)
    found = summary.image_metrics(labels, scores, 100.0)
    assert found["image_f1"][:2] == (0, 0)
    assert 0 < found["image_f1"].high == pytest.approx(2 * found["image_recall"].high / (1 + found["image_recall"].high))
    assert found["image_precision"] == (None, None, None, "no alarms")


@pytest.mark.parametrize(
    ("labels", "reason", "defined"),
    [
        ([], "no images", set()),
        ([0, 0, 0], "no anomalous images", {"image_accuracy", "image_specificity"}),
        ([1, 1, 1], "no good images", {"image_accuracy", "image_recall"}),
    ],
)
def test_undefined_image_measures_say_why(labels, reason, defined):
    found = summary.image_metrics(labels, np.arange(len(labels)), 1.0)
    assert {name for name, one in found.items() if one.value is not None} == defined
    undefined = {name: one for name, one in found.items() if name not in defined}
    for name, one in undefined.items():
        assert one.low is None, name
        assert one.reason in (reason, "no anomalous images", "no good images"), name
    assert found["image_ap"].reason == found["image_auroc"].reason == reason


def test_single_images_have_values_without_intervals():
    found = summary.image_metrics([0, 0, 0, 1], [1, 2, 4, 3], 2.5)
    for name in ("image_auroc", "image_ap", "image_f1max", "image_f1"):
        assert found[name][1:] == (None, None, "fewer than 2 anomalous images"), name
    assert found["image_f1"].value == pytest.approx(2 / 3)
    assert found["image_recall"].low == pytest.approx(0.025)  # of 1 image, exact


def test_defects_are_told_from_all_good_images():
    labels, scores = sample(3, 9, 20)
    defects = [*"abcabcab", "", *["a"] * 20]  # of good images nothing is taken
    found = summary.image_metrics_by_defect(labels, scores, defects, 0.5, resamples=100)
    assert list(found) == ["a", "b", "c", "untyped"]
    for name in "ab":
        rows = [i for i in range(29) if i >= 9 or defects[i] == name]
        one = found[name]
        assert one["image_auroc"].value == pytest.approx(ranking.auroc(labels[rows], scores[rows]))
        assert one["image_ap"].value == pytest.approx(ranking.average_precision(labels[rows], scores[rows]))
        assert one["image_recall"].value == ranking.recall(labels[rows], scores[rows] >= 0.5)
        assert one["image_ap"].low < one["image_ap"].value
    assert found["untyped"]["image_ap"].reason == "fewer than 2 anomalous images"
    assert set(summary.image_metrics_by_defect(labels, scores, defects, None, resamples=10)["a"]) == {"image_auroc", "image_ap"}


def test_defects_without_good_images_are_undefined():
    found = summary.image_metrics_by_defect([1, 1], [1, 2], ["a", "b"], 1.5)
    assert found["a"]["image_auroc"] == found["a"]["image_ap"] == (None, None, None, "no good images")
    assert found["b"]["image_recall"].value == 1.0
    assert summary.image_metrics_by_defect([0, 0], [1, 2], ["", ""], 1.5) == {}
    with pytest.raises(ValueError, match="defects: got 1 types for 2 images, need one for each"):
        summary.image_metrics_by_defect([1, 1], [1, 2], ["a"], 1.5)


@pytest.mark.parametrize("typed", [False, True])
def test_pixel_summary_is_exact_with_intervals(typed):
    maps, masks = pictures(0)
    defects = types_of(masks, "abb") if typed else None
    found = summary.pixel_metrics(maps, masks, 1.0, defects=defects, limits=(0.3, 0.05), resamples=200)
    plain = exact_pixel_metrics(maps, masks, (0.3, 0.05))
    slow = slow_pro_curve(maps, masks, keep=lambda area: area == 16)
    expected = {
        "pixel_auroc": plain.auroc,
        "pixel_ap": plain.ap,
        "pixel_f1max": plain.f1_max,
        "au_pro": plain.au_pro[0.3],
        "au_pro@0.05": plain.au_pro[0.05],
        "au_pro_small": None,
        "au_pro_medium": slow_area(slow_pro_curve(maps, masks, keep=lambda area: area == 2), 0.3),
        "au_pro_large": slow_area(slow, 0.3),
        "pixel_f1": ranking.f1(masks.ravel(), maps.ravel() >= 1),
        "pixel_precision": ranking.precision(masks.ravel(), maps.ravel() >= 1),
        "pixel_recall": ranking.recall(masks.ravel(), maps.ravel() >= 1),
    }
    values = {name: one.value for name, one in found.items()}
    assert values.pop("au_pro_small") is expected.pop("au_pro_small") is None
    assert found["au_pro_small"].reason == "no regions of this size"
    assert values == pytest.approx(expected, abs=1e-12)
    for name in expected:
        assert 0 <= found[name].low < found[name].value < found[name].high <= 1, name
    fewer = summary.pixel_metrics(maps, masks, None, defects=defects, limits=(0.05,), resamples=200)
    assert fewer == {name: one for name, one in found.items() if not (name == "au_pro" or name in summary.PIXEL_DECISION_METRICS)}


def test_types_of_one_image_each_are_resampled_as_one():
    maps, masks = pictures(7)
    alone = summary.pixel_metrics(maps, masks, 1.0, defects=types_of(masks, "abcdefg"), resamples=30)
    assert alone == summary.pixel_metrics(maps, masks, 1.0, resamples=30)
    assert alone != summary.pixel_metrics(maps, masks, 1.0, defects=types_of(masks, "ab"), resamples=30)


def test_intervals_stand_where_the_exact_values_do(monkeypatch):
    """A table of so few thresholds that its own figures are far off."""
    maps, masks = pictures(8, size=40)
    fine = summary.pixel_metrics(maps, masks, None, resamples=200)
    monkeypatch.setattr(binned, "_THRESHOLDS", 24)
    off = {
        name: abs(one[0] - fine[name].value) for name, one in count_pixels(maps, masks).measures(np.ones((1, 14)), (0.3,)).items()
    }
    assert off["pixel_ap"] > 0.03
    coarse = summary.pixel_metrics(maps, masks, None, resamples=200)
    for name in off:
        assert coarse[name].value == fine[name].value
        assert coarse[name][1:3] == pytest.approx(fine[name][1:3], abs=0.03), name


@pytest.mark.parametrize("size", [16, 80])
def test_resampled_table_is_close_to_the_measures_of_the_resampled_images(size):
    """With 80 x 80 pixels there are more scores than thresholds in the table."""
    maps, masks = pictures(1, size=size)
    rng = np.random.default_rng(0)
    rows = np.concatenate((rng.integers(7, size=7), rng.integers(7, 14, size=7)))
    weights = np.bincount(rows, minlength=14)
    table = count_pixels(maps, masks).measures(weights[None], (0.3, 0.05), tuple(SIZES))
    whole = exact_pixel_metrics(maps[rows], masks[rows], (0.3, 0.05))
    assert table["pixel_auroc"] == pytest.approx(whole.auroc, abs=0.002)
    assert table["pixel_ap"] == pytest.approx(whole.ap, abs=0.01)
    assert table["pixel_f1max"] == pytest.approx(whole.f1_max, abs=0.01)
    assert table["au_pro"] == pytest.approx(whole.au_pro[0.3], abs=0.01)
    assert table["au_pro@0.05"] == pytest.approx(whole.au_pro[0.05], abs=0.02)
    regions, ranks = find_regions(masks[rows]), rank(maps[rows], masks[rows])
    for name in SIZES:
        curve = pro_from_ranks(ranks, regions, regions.of_size(name))
        expected = np.nan if curve is None else area_under(curve, 0.3)
        assert table[f"au_pro_{name}"] == pytest.approx(expected, abs=0.02, nan_ok=True), name


def test_pixel_interval_holds_about_as_often_as_it_says():
    """25 test sets; what AU-PRO tends to is taken from 1,000 images."""
    truth = au_pro(*pictures(10**6, images=1000, size=16))
    found = [summary.pixel_metrics(*pictures(seed, images=30, size=16), None, resamples=60)["au_pro"] for seed in range(25)]
    assert 0.8 < np.mean([one.low <= truth <= one.high for one in found]) <= 1


def test_order_of_images_does_not_change_the_values():
    maps, masks = pictures(2)
    order = np.random.default_rng(0).permutation(len(maps))
    one, other = (summary.pixel_metrics(maps[i], masks[i], 1.0, resamples=50) for i in (slice(None), order))
    for name in one:
        assert one[name].value == pytest.approx(other[name].value, abs=1e-12), name


def test_pixels_by_defect_are_those_of_its_images_and_the_good_ones():
    maps, masks = pictures(3)
    defects = types_of(masks, ["a", "b", "", "b"])
    found = summary.pixel_metrics_by_defect(maps, masks, defects, limits=(0.3, 0.1), resamples=50)
    assert list(found) == ["a", "b", "untyped"]
    good = [i for i in range(14) if not masks[i].any()]
    for type_, name in (("a", "a"), ("b", "b"), ("", "untyped")):
        rows = good + [i for i in range(14) if masks[i].any() and defects[i] == type_]
        plain = exact_pixel_metrics(maps[rows], masks[rows], (0.3, 0.1))
        values = {key: one.value for key, one in found[name].items()}
        assert values == pytest.approx({"pixel_ap": plain.ap, "au_pro": plain.au_pro[0.3], "au_pro@0.1": plain.au_pro[0.1]})
        assert found[name]["pixel_ap"].low < plain.ap < found[name]["pixel_ap"].high


def test_a_type_of_one_image_has_no_interval_and_one_without_defect_pixels_no_value():
    maps, masks = pictures(4)
    defects = types_of(masks, "aaaaaab")
    defects[0] = "lost"  # an anomaly whose mask is empty at this size
    found = summary.pixel_metrics_by_defect(maps, masks, defects, resamples=20)
    assert found["b"]["au_pro"].reason == "such defects in fewer than 2 images"
    assert found["b"]["au_pro"].value > 0
    assert found["lost"]["au_pro"] == found["lost"]["pixel_ap"] == (None, None, None, "no defect pixels")


@pytest.mark.parametrize(
    ("images", "value", "reason"), [(0, False, "no images"), (2, False, "no defect pixels"), (2, True, "no defect-free pixels")]
)
def test_undefined_pixel_measures_say_why(images, value, reason):
    maps = np.zeros((images, 4, 4), dtype=np.float32)
    found = summary.pixel_metrics(maps, np.full(maps.shape, value), 0.5, limits=(0.3, 0.05))
    assert set(found.values()) == {(None, None, None, reason)}
    assert set(found) >= {"pixel_auroc", "au_pro@0.05", "au_pro_small", "pixel_precision"}


def test_marks_and_regions_that_are_missing():
    maps, masks = pictures(5)
    found = summary.pixel_metrics(maps, masks, 1e6, resamples=20)
    assert found["pixel_precision"] == (None, None, None, "no marked pixels")
    assert found["pixel_f1"] == (0, None, None, "every resample gives the same value")
    masks[8:] = False
    found = summary.pixel_metrics(maps, masks, 1.0, resamples=20)
    assert {one.reason for one in found.values()} == {"such defects in fewer than 2 images", "no regions of this size"}
    assert found["pixel_f1"].value > 0


def test_faults_are_refused():
    maps, masks = pictures(6)
    for call in (summary.pixel_metrics, summary.pixel_metrics_by_defect):
        with pytest.raises(ValueError, match="limit: got 2, allowed"):
            call(maps, masks, [""] * 14 if call is summary.pixel_metrics_by_defect else None, limits=(2,))
    with pytest.raises(ValueError, match="defects: got 3 types for 14 images"):
        summary.pixel_metrics(maps, masks, None, defects=["a"] * 3)
