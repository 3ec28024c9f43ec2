"""Comparisons without a training: methods with scores that a test chooses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from adjobs.comparison.candidate import CandidateOutcome
from adjobs.comparison.ranking import TrainedMethod, rank
from adjobs.comparison.result import ComparisonResult, CurvePoint, MethodResult, MethodState, Ranking
from adjobs.metrics.intervals import Estimate
from adjobs.metrics.ranking import auroc
from adjobs.types import ImageScores

N_NORMAL, N_ANOMALOUS = 60, 30


def make_trained(name: str, shift: float, ms_per_image: float = 5.0, seed: int = 0, **values: Any) -> TrainedMethod:
    """A method whose anomalies score ``shift`` standard deviations above the normal images."""
    labels = np.repeat([0, 1], [N_NORMAL, N_ANOMALOUS])
    score = np.random.default_rng(seed).normal(size=len(labels)) + shift * labels
    ids = tuple(f"{i}.png" for i in range(len(labels)))
    scores = ImageScores(ids, labels, score, ("",) * len(labels), None, None)
    fields = {
        "values": {"image_auroc": auroc(labels == 1, score)},
        "resampled": (),
        "train_seconds": 10.0,
        "ms_per_image": ms_per_image,
        "peak_memory_mib": 700.0,
        "detector_mib": 20.5,
        "selected_checkpoint": 2,
        "cut_stages": (),
    }
    return TrainedMethod(name, name, f"run-{name}", CandidateOutcome(**{**fields, **values}), scores)


def make_ranking(trained: Sequence[TrainedMethod], curves: Sequence[CurvePoint] = (), metric: str = "image_auroc") -> Ranking:
    """Their ranking, with one method that was left out."""
    excluded = MethodResult("liac", "liac", MethodState.EXCLUDED, "the training split has no anomalies")
    counts = {"normal": N_NORMAL, "anomalous": N_ANOMALOUS}
    return Ranking(metric, (*rank(trained, metric), excluded), tuple(curves), 40, counts, 120.0)


def make_result(ranking: Ranking) -> ComparisonResult:
    """A finished comparison."""
    return ComparisonResult(
        name="night",
        run_id="4f",
        run_url=None,
        tracking_uri="sqlite:///mlflow.db",
        data="tiles",
        ranking=ranking,
        recommendation=("Take it.",),
        chosen=ranking.chosen.name,
        chosen_run="9a",
        model="models:/m-1",
        test={"image_auroc": Estimate(0.91, 0.85, 0.95), "pixel_ap": Estimate(None)},
        seconds=70.0,
    )
