"""What ``adjobs train`` prints of its metrics."""

from __future__ import annotations

from adjobs.cli.train import describe
from adjobs.evaluation.result import EvaluationResult, SplitMetrics
from adjobs.evaluation.thresholds import Thresholds
from adjobs.jobs.result import TrainResult
from adjobs.metrics.intervals import Estimate
from adjobs.metrics.policies import ThresholdPolicy
from adjobs.metrics.threshold import choose_threshold


def test_metrics_undefined_on_validation_alone_has_its_reason():
    undefined = Estimate(None, reason="no regions of this size")
    thresholds = Thresholds(choose_threshold(ThresholdPolicy("fixed", 0.5), [0, 1], [0.0, 1.0]))
    evaluation = EvaluationResult({"val": SplitMetrics({"au_pro_small": undefined}, {}, {})}, thresholds, 1.0)
    result = TrainResult("r", "cdo", "d", "f" * 64, evaluation, "m", None, 1, 0.0, 1.0, "u", None, None)
    assert "undefined: au_pro_small (no regions of this size)" in describe(result)


def test_metrics_of_masked_defect_types_are_printed_where_the_split_has_none():
    reason = "3 of 9 anomalous images have no mask (bent 3)"
    undefined = Estimate(None, reason=reason)
    by_defect = {
        "bent": {"image_auroc": Estimate(0.9), "pixel_ap": Estimate(None, reason="3 of 3 images have no mask")},
        "cut": {"image_auroc": Estimate(0.8), "pixel_ap": Estimate(0.71), "au_pro": Estimate(0.885)},
    }
    thresholds = Thresholds(choose_threshold(ThresholdPolicy("fixed", 0.5), [0, 1], [0.0, 1.0]))
    test = SplitMetrics({"pixel_ap": undefined, "au_pro": undefined}, by_defect, {"bent": 3, "cut": 6})
    result = TrainResult(
        *("r", "cdo", "d", "f" * 64),
        EvaluationResult({"test": test}, thresholds, 1.0),
        *("m", None, 1, 0.0, 1.0, "u", None, None),
    )
    text = describe(result)
    assert (
        "\n".join([f"undefined: pixel_ap, au_pro ({reason})", "by defect type, test: cut pixel_ap 0.710, au_pro 0.885"]) in text
    )
