from __future__ import annotations

import numpy as np
import pytest

from adjobs.comparison.ranking import compare, rank, recommend
from adjobs.comparison.result import CurvePoint
from adjobs.evaluation.compare import Difference
from tests.helpers.comparison import make_ranking, make_trained


def test_rank_best_is_first_and_others_are_compared_with_it():
    ranked = rank([make_trained("worse", 0.3, seed=1), make_trained("best", 3.0)], "image_auroc")
    assert [method.name for method in ranked] == ["best", "worse"]
    assert ranked[0].difference is None
    assert ranked[1].difference.value == pytest.approx(
        ranked[1].complete.values["image_auroc"] - ranked[0].complete.values["image_auroc"]
    )
    assert ranked[1].difference.high < 0
    assert [method.is_tied for method in ranked] == [True, False]


def test_rank_equal_methods_are_tied_and_the_faster_is_first():
    ranked = rank([make_trained("slow", 2.0, 9.0), make_trained("fast", 2.0, 3.0)], "image_auroc")
    assert [(method.name, method.is_tied) for method in ranked] == [("fast", True), ("slow", True)]
    assert ranked[1].difference == Difference(0.0, 0.0, 0.0, 1.0)


def test_rank_more_methods_make_wider_intervals():
    pair = [make_trained("best", 2.5), make_trained("other", 1.2, seed=1)]
    more = [make_trained(f"m{i}", 0.1, seed=i) for i in range(2, 6)]
    alone, among = rank(pair, "image_auroc")[1].difference, rank([*pair, *more], "image_auroc")[1].difference
    assert among.value == alone.value
    assert among.low < alone.low
    assert among.high > alone.high


def test_compare_pixel_metric_uses_the_resamples():
    noise = np.random.default_rng(0).normal(0, 0.1, 4000)
    a = make_trained("a", 1.0, values={"pixel_ap": 0.5}, resampled=tuple(0.5 + noise))
    b = make_trained("b", 1.0, values={"pixel_ap": 0.4}, resampled=tuple(0.4 + noise))
    difference = compare(a, b, "pixel_ap")
    assert (difference.low, difference.high) == (pytest.approx(0.1), pytest.approx(0.1))
    assert difference.p_value == pytest.approx(2 / 4001)


def test_compare_other_images_are_refused():
    a = make_trained("a", 1.0)
    other = a._replace(name="b", scores=a.scores._replace(ids=("x", *a.scores.ids[1:])))
    with pytest.raises(ValueError, match="a and b were evaluated on other images"):
        compare(a, other, "image_auroc")


def test_recommend_clear_winner_is_named_with_its_lead():
    ranking = make_ranking([make_trained("cdo", 3.0), make_trained("dpae", 0.2, 1.0, seed=1)])
    first, second = recommend(ranking)
    assert first.startswith("cdo is the best on validation: image AUROC 0.9")
    assert "more than dpae, the second" in first
    assert second == "Take cdo."


def test_recommend_tied_methods_the_fastest_is_taken():
    ranking = make_ranking([make_trained("cdo", 2.0, 9.0), make_trained("dpae", 1.9, 3.0, seed=3)])
    assert ranking.chosen.name == "dpae"
    first, second, third = recommend(ranking)
    assert first.startswith("These data cannot distinguish the 2 methods: on the 60 normal and 30 anomalous images")
    assert second == "Take dpae, the fastest of these: 3.0 ms per image (cdo 9.0)."
    assert "More labelled images" in third


def test_recommend_some_tied_the_others_are_worse():
    trained = [make_trained("cdo", 2.0), make_trained("dpae", 1.9, 7.0, seed=3), make_trained("slsg", 0.0, 1.0, seed=1)]
    first, second, _ = recommend(make_ranking(trained))
    assert "cannot distinguish dpae from it, and the others are worse" in first
    assert second == "Take cdo, the fastest of these: 5.0 ms per image (dpae 7.0)."


def test_recommend_single_method_is_not_called_the_best():
    assert recommend(make_ranking([make_trained("cdo", 2.0)]))[0].startswith("Only cdo could be compared")


def test_recommend_methods_that_ran_out_of_time_are_named():
    sentences = recommend(make_ranking([make_trained("cdo", 2.0, cut_stages=("distil 73/3600",))]))
    reached = "cdo (distil 73/3600) reached the time limit of 120 s before the end of the training"
    assert sentences[-1] == f"{reached}; a larger budget may change the order."


@pytest.mark.parametrize(
    ("gain", "verdict"),
    [
        (Difference(0.05, 0.02, 0.08, 0.001), "rose by +0.050 (+0.020 to +0.080): more labels are likely to help."),
        (Difference(-0.05, -0.08, -0.02, 0.001), "more labels of this kind do not help."),
        (Difference(0.0, -0.01, 0.01, 0.9), "a few more labels will hardly help."),
        (Difference(0.0, -0.1, 0.1, 0.9), "it is open whether more labels would help."),
        (Difference(0.1, reason="too few"), "these data cannot say whether more labels would help."),
    ],
)
def test_recommend_last_doubling_says_what_more_labels_would_bring(gain, verdict):
    curves = [CurvePoint("liac", 20, 0.8, gain, "7b"), CurvePoint("liac", 10, reason="takes about 90 s")]
    doubling, missing = recommend(make_ranking([make_trained("cdo", 2.0)], curves))[-2:]
    assert doubling.startswith("From 20 to 40 labelled anomalies, the image AUROC of liac ")
    assert doubling.endswith(verdict)
    assert missing == "liac was not trained with 10 labelled anomalies: takes about 90 s."
