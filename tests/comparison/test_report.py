from __future__ import annotations

import json

from adjobs.comparison import report
from adjobs.comparison.result import CurvePoint
from adjobs.evaluation.compare import Difference
from tests.helpers.comparison import make_ranking, make_result, make_trained

CURVES = [
    CurvePoint("cdo", 20, 0.8, Difference(0.05, 0.02, 0.08, 0.001), "7b"),
    CurvePoint("cdo", 10, reason="takes about 90 s"),
]


def test_table_rows_mark_the_choice_ties_and_time_limits():
    trained = [make_trained("cdo", 2.0), make_trained("dpae", 1.9, 3.0, seed=3, cut_stages=("fit 3/9",))]
    first, second = report.table_rows(make_ranking(trained))
    assert first[:2] == ["", "cdo"]
    assert first[3:5] == ["best", ""]
    assert first[5:] == ["10", "5.0", "700", "20.5", ""]
    assert second[:2] == ["*", "dpae"]
    assert second[3].startswith("-0.0")
    assert second[-1] == "tied, time limit at fit 3/9"


def test_summarise_has_all_methods_and_the_curve():
    text = report.summarise(make_result(make_ranking([make_trained("cdo", 2.0)], CURVES)))
    assert text.startswith(
        "# Which method for tiles\n\nTake it.\n\ncdo on the test split, which chose nothing: image AUROC 0.910 "
    )
    assert "| cdo | 20 | 0.8000 | +0.050 (+0.020 to +0.080) |" in text
    assert "| cdo | 10 |  | not trained: takes about 90 s |" in text
    assert text.endswith("- liac left out: the training split has no anomalies\n")


def test_describe_starts_with_the_choice_and_ends_with_the_figure():
    text = report.describe(make_result(make_ranking([make_trained("cdo", 2.0)], CURVES)), "get-artifact?path=a.png")
    assert text.startswith("Take it.\n\ncdo on the test split, which chose nothing: image AUROC 0.910 ")
    assert "| cdo&emsp; | 20&emsp; | 0.8000&emsp; |" in text
    assert text.endswith("\n\n![methods by metric and cost](get-artifact?path=a.png)")


def test_result_to_dict_is_json_without_the_resamples():
    trained = [make_trained("cdo", 2.0, resampled=(0.1, 0.2)), make_trained("dpae", 0.1)]
    document = json.loads(json.dumps(make_result(make_ranking(trained, CURVES)).to_dict(), allow_nan=False))
    best, worse, excluded = document["ranking"]["methods"]
    assert "resampled" not in best["outcome"]
    assert worse["difference"]["high"] < 0
    assert (excluded["state"], excluded["outcome"]) == ("excluded", None)
    assert document["ranking"]["curves"][0]["gain"]["value"] == 0.05


def test_draw_has_axes_for_the_curves_if_any():
    trained = [make_trained("cdo", 2.0), make_trained("dpae", 0.1)]
    assert len(report.draw(make_ranking(trained)).axes) == 1
    costs, curves = report.draw(make_ranking(trained, CURVES)).axes
    assert costs.get_ylabel() == "image AUROC"
    (line,) = curves.lines
    assert list(line.get_xdata()) == [20, 40]
