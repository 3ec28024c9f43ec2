"""What ``adjobs train`` prints of its metrics."""

from __future__ import annotations

from adjobs.cli.train import _metrics
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
    assert "undefined: au_pro_small (no regions of this size)" in _metrics(result)
