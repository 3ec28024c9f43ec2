"""What jobs give back: frozen, made once, printed by the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from adjobs.evaluation.result import EvaluationResult


@dataclass(frozen=True)
class FinalizedRun:
    """What rank 0 made of a trained method.

    Attributes:
        evaluation: metrics of validation and test, and the thresholds.
        model: what loads the detector: a ``models:/`` URI, or a folder for runs without MLflow.
        images_per_s: mean training speed; None when nothing was left to train.
        selected_checkpoint: number of the checkpoint that became the model.
        finalize_seconds: time spent on evaluation, figures and the model.
    """

    evaluation: EvaluationResult
    model: str
    images_per_s: float | None
    selected_checkpoint: int
    finalize_seconds: float


@dataclass(frozen=True)
class TrainResult:
    """A finished training job.

    Attributes:
        run_id: of MLflow, or of the run's folder.
        method: its name.
        data: the data set's URI.
        data_fingerprint: of all images and labels.
        evaluation: metrics of validation and test, and the thresholds.
        model: what :func:`adjobs.load_detector` loads.
        images_per_s: mean training speed; None when nothing was left to train.
        selected_checkpoint: number of the checkpoint that became the model.
        finalize_seconds: time spent on evaluation, figures and the model.
        seconds: of the whole job.
        tracking_uri: where the run is recorded.
        run_url: the run's page in the MLflow UI; None without a server.
        experiment: of MLflow; None for runs without MLflow.
    """

    run_id: str
    method: str
    data: str
    data_fingerprint: str
    evaluation: EvaluationResult
    model: str
    images_per_s: float | None
    selected_checkpoint: int
    finalize_seconds: float
    seconds: float
    tracking_uri: str
    run_url: str | None
    experiment: str | None

    @property
    def metrics(self) -> dict[str, float | None]:
        """Values such as ``test/image_auroc``; None where undefined."""
        return self.evaluation.metrics

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        fields = {key: value for key, value in vars(self).items() if key != "evaluation"}
        return {**fields, **self.evaluation.to_dict()}


@dataclass(frozen=True)
class ThresholdChange:
    """A metric of the test split before and after a threshold was changed; None where undefined."""

    before: float | None
    after: float | None


@dataclass(frozen=True)
class ThresholdResult:
    """A threshold that was chosen again for a finished run.

    Attributes:
        run_id: of MLflow, or of the run's folder.
        level: ``image`` or ``pixel``.
        old: the threshold before, with its ``meaning``; None where there was none.
        new: the threshold that holds now, with its ``meaning``.
        test: the metrics of the test split that depend on it.
        model: what loads the detector that decides by it.
        registered: registered model that got a new version, or None.
    """

    run_id: str
    level: str
    old: Mapping[str, Any] | None
    new: Mapping[str, Any]
    test: Mapping[str, ThresholdChange]
    model: str
    registered: str | None

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {**vars(self), "test": {name: asdict(change) for name, change in self.test.items()}}
