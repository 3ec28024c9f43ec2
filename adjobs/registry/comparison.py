"""Two versions of a model beside each other, on the scores that their runs stored for the same test split."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from adjobs.errors import RegistryError, shown
from adjobs.evaluation.compare import Difference, compare_auroc, compare_metric
from adjobs.evaluation.gate import PredictionCost, evaluate_gate
from adjobs.evaluation.gate_policy import GatePolicy
from adjobs.evaluation.gate_verdict import GateVerdict
from adjobs.evaluation.score_table import PairedScores, ScoreTable, pair_scores
from adjobs.metrics import ranking
from adjobs.registry.models import ModelVersion
from adjobs.tracking.layout import RunRef
from adjobs.tracking.logged_model import read_detector_manifest
from adjobs.tracking.reader import RunReader
from adjobs.tracking.runs import open_reader

STORED_SCORES_POLICY = GatePolicy(target_gain=None, behaviours=())
"""What stored scores of a test split can show: not worse, within the bounds. New anomalies and small changes take the model."""


@dataclass(frozen=True)
class MetricComparison:
    """A metric of two versions on the same images.

    Attributes:
        name: such as ``image_auroc``.
        a: of the first version; None where it is undefined.
        b: of the second.
        difference: b minus a, with its interval; None for a cost.
    """

    name: str
    a: float | None
    b: float | None
    difference: Difference | None

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        difference = None if self.difference is None else self.difference._asdict()
        return {"name": self.name, "a": self.a, "b": self.b, "difference": difference}


@dataclass(frozen=True)
class VersionComparison:
    """Two versions on the same test split.

    Attributes:
        a: the first, in the place of the champion.
        b: the second, in the place of the challenger.
        fingerprint: of the data set.
        normal: normal test images, or parts where several images show one.
        anomalous: anomalous ones.
        unit: "images" or "parts".
        metrics: of both.
        verdict: of the gate on b.
    """

    a: ModelVersion
    b: ModelVersion
    fingerprint: str
    normal: int
    anomalous: int
    unit: str
    metrics: tuple[MetricComparison, ...]
    verdict: GateVerdict

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "a": self.a.to_dict(),
            "b": self.b.to_dict(),
            "data_fingerprint": self.fingerprint,
            "compared": {"unit": self.unit, "normal": self.normal, "anomalous": self.anomalous},
            "metrics": [metric.to_dict() for metric in self.metrics],
            "verdict": self.verdict.to_dict(),
        }


@dataclass(frozen=True)
class _Evaluated:
    """A version with what its run stored of the test split."""

    table: ScoreTable
    fingerprint: str
    ms_per_image: float | None


def compare_versions(uri: str, a: ModelVersion, b: ModelVersion, policy: GatePolicy = STORED_SCORES_POLICY) -> VersionComparison:
    """Compare two versions, which may be of different models, by the scores that their runs stored for the test split.

    Nothing is predicted. Each version decides by the threshold that is stored in it. Images of one part count once, as they do in
    the gate.

    Args:
        uri: tracking URI.
        a: the first version, in the place of the champion.
        b: the second, in the place of the challenger.
        policy: of the gate.

    Raises:
        RegistryError: a version without a run, or two that were evaluated on different data sets.
        DataError: different test images or labels.
        TrackingError: MLflow does not answer, or a run has no scores.
    """
    first, second = _evaluated(uri, a), _evaluated(uri, b)
    if first.fingerprint != second.fingerprint:
        fingerprints = f"fingerprints {first.fingerprint[:12]} and {second.fingerprint[:12]}"
        raise RegistryError(
            f"{a.uri} and {b.uri} cannot be compared: they were evaluated on different data sets ({fingerprints}); "
            "train one of them on the data of the other"
        )
    pairs = pair_scores(first.table, second.table, "test split")
    normal = int((~pairs.truth).sum())
    return VersionComparison(
        a=a,
        b=b,
        fingerprint=first.fingerprint,
        normal=normal,
        anomalous=len(pairs.truth) - normal,
        unit=pairs.unit,
        metrics=(*_compare(pairs), MetricComparison("ms_per_image", first.ms_per_image, second.ms_per_image, None)),
        verdict=evaluate_gate(policy, (first.table, second.table), cost=PredictionCost(second.ms_per_image)),
    )


def version_metrics(uri: str, version: ModelVersion) -> dict[str, float]:
    """Metrics of the test split that the run of a version stored, with its threshold; empty without a run.

    Raises:
        TrackingError: MLflow does not answer, or has no such run.
    """
    if not version.run_id:
        return {}
    reader = open_reader(RunRef(uri, version.run_id))
    metrics = {**reader.info.metrics, **{name: estimate.value for name, estimate in reader.estimates().items()}}
    shown_metrics = {name: value for name, value in metrics.items() if name.startswith("test/") or name == "threshold"}
    return {name: value for name, value in shown_metrics.items() if value is not None and math.isfinite(value)}


def _evaluated(uri: str, version: ModelVersion) -> _Evaluated:
    if not version.run_id:
        raise RegistryError(f"{version.uri} has no run, so that no scores of it are stored; register a model of 'adjobs train'")
    reader: RunReader = open_reader(RunRef(uri, version.run_id))
    if "data_fingerprint" not in reader.info.tags:
        raise RegistryError(
            f"{version.uri} is of run {shown(version.run_id)}, which is not a training of adjobs; choose another version"
        )
    threshold = read_detector_manifest(uri, version.uri).threshold.value
    return _Evaluated(
        table=ScoreTable.from_image_scores(reader.scores("test"), threshold),
        fingerprint=reader.info.tags["data_fingerprint"],
        ms_per_image=reader.info.metrics.get("test/ms_per_image"),
    )


def _compare(pairs: PairedScores) -> list[MetricComparison]:
    truth, a, b = pairs.truth, pairs.champion, pairs.challenger
    compute = {"image_auroc": ranking.auroc, "image_ap": ranking.average_precision}
    differences = {"image_auroc": compare_auroc(truth, b, a), "image_ap": compare_metric("image_ap", truth, b, a)}
    metrics = [MetricComparison(name, compute[name](truth, a), compute[name](truth, b), differences[name]) for name in compute]
    for name, is_chosen in (("image_recall", truth), ("false_alarm_rate", ~truth)):
        alarms = (pairs.champion_alarms[is_chosen], pairs.challenger_alarms[is_chosen])
        rates = [float(np.mean(alarm)) if alarm.size else None for alarm in alarms]
        metrics.append(MetricComparison(name, rates[0], rates[1], None))
    return metrics
