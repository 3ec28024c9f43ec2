"""Writing a run: opened by the process that launches the job, written to by rank 0, closed by the launcher or a signal handler.

Everything may be repeated after a restart: tags and artifacts are replaced; of a metric that is logged again for an interval,
readers take the first value.
"""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adjobs.config.job import JobConfig
from adjobs.errors import one_line
from adjobs.tracking.client import DUPLICATE_TEXTS, connect, mlflow_errors
from adjobs.tracking.layout import (
    HISTORY_PREFIXES,
    JOB_FILE,
    PREFLIGHT_FILE,
    SPLIT_FILE,
    TAG,
    DatasetInfo,
    RunRef,
    scores_file,
)
from adjobs.tracking.params import distinguishing_params
from adjobs.types import ImageScores, JobStatus

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_PARAM_LENGTH = 6000  # MLflow refuses longer values; none of ours comes near, a URI might
MAX_BATCH = 100  # parameters that one request may carry
NOTE_TAG, MAX_NOTE_LENGTH = "mlflow.note.content", 8000
MAX_DIGEST = 36  # characters of a data set's digest

History = dict[str, list[tuple[int, float]]]
"""(interval, value) pairs by metric, in the order of recording."""


class RunWriter(ABC):
    """Writes into one run."""

    def __init__(self, ref: RunRef) -> None:
        self.ref = ref

    @abstractmethod
    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags under our prefix."""

    @abstractmethod
    def log_metrics(self, values: Mapping[str, float | None], step: int) -> None:
        """Log numbers without the undefined ones (None).

        Args:
            values: by name.
            step: number of the evaluation interval; for metrics of the model, the number of the last checkpoint.
        """

    @abstractmethod
    def metric_history(self) -> History:
        """What was recorded interval by interval, also before a resume."""

    @abstractmethod
    def set_description(self, text: str) -> None:
        """Set what the run's page shows of it, in Markdown."""

    @abstractmethod
    def log_text(self, text: str, name: str) -> None:
        """Store a text artifact."""

    @abstractmethod
    def log_figure(self, figure: Figure, name: str, dpi: int | None = None) -> None:
        """Store a matplotlib figure as a PNG artifact, with its own resolution or another."""

    @abstractmethod
    def log_model(self, detector: Path, registered: str | None) -> str:
        """Store a detector folder as the run's model; returns what loads it again.

        Args:
            detector: folder that :func:`adjobs.inference.detector_folder.save` wrote.
            registered: registered model that gets a new version, or None.
        """

    def log_model_once(self, detector: Path, registered: str | None) -> str:
        """Store a detector folder as the run's only model, unless it has one from before it was interrupted."""
        return self.log_model(detector, registered)

    @abstractmethod
    def record_job(self, job: JobConfig, dataset: DatasetInfo) -> None:
        """Record a job: parameters, data set, split, problems of the data."""

    @abstractmethod
    def reopen(self, tags: Mapping[str, str]) -> None:
        """Set an ended run to running again."""

    @abstractmethod
    def close(self, status: JobStatus, error: BaseException | None = None) -> None:
        """End the run, with the error as a tag."""

    def log_json(self, document: Mapping[str, Any], name: str) -> None:
        """Store a mapping as a JSON artifact."""
        self.log_text(json.dumps(dict(document), indent=1), name)

    def log_scores(self, scores: ImageScores, threshold: float, split: str) -> None:
        """Store the score of every image of a split as a table, in MLflow's own form."""
        columns = {
            "image": list(scores.ids),
            "label": scores.labels.tolist(),
            "defect": list(scores.defects),
            "score": scores.score.tolist(),
            "decision": (scores.score >= threshold).astype(int).tolist(),
        }
        if scores.groups is not None:
            columns["group"] = list(scores.groups)
        rows = [list(row) for row in zip(*columns.values(), strict=True)]
        self.log_json({"columns": list(columns), "data": rows}, scores_file(split))


class MlflowRunWriter(RunWriter):
    """A run of MLflow."""

    def __init__(self, ref: RunRef) -> None:
        super().__init__(ref)
        self._client = connect(ref.tracking_uri)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags under our prefix."""
        with mlflow_errors(self.ref.tracking_uri):
            for key, value in tags.items():
                self._client.set_tag(self.ref.run_id, f"{TAG}{key}", value)

    def log_metrics(self, values: Mapping[str, float | None], step: int) -> None:
        """Log the numbers in one request."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(key, float(value), now, step) for key, value in values.items() if value is not None]
        with mlflow_errors(self.ref.tracking_uri):
            self._client.log_batch(self.ref.run_id, metrics=metrics)

    def metric_history(self) -> History:
        """What was recorded interval by interval, also before a resume."""
        with mlflow_errors(self.ref.tracking_uri):
            metrics = self._client.get_run(self.ref.run_id).data.metrics
        names = [name for name in metrics if name.startswith(HISTORY_PREFIXES)]
        return read_history(self._client, self.ref, names)

    def set_description(self, text: str) -> None:
        """Set MLflow's note, which it shows as the description; cut where it would refuse a longer one."""
        with mlflow_errors(self.ref.tracking_uri):
            self._client.set_tag(self.ref.run_id, NOTE_TAG, text[:MAX_NOTE_LENGTH])

    def log_text(self, text: str, name: str) -> None:
        """Store a text artifact."""
        with mlflow_errors(self.ref.tracking_uri):
            self._client.log_text(self.ref.run_id, text, name)

    def log_figure(self, figure: Figure, name: str, dpi: int | None = None) -> None:
        """Store a matplotlib figure as a PNG artifact, with its own resolution or another."""
        with mlflow_errors(self.ref.tracking_uri):
            self._client.log_figure(self.ref.run_id, figure, name, save_kwargs={"dpi": dpi or "figure"})

    def log_model(self, detector: Path, registered: str | None) -> str:
        """Log a pyfunc from code; returns its ``models:/`` URI."""
        from adjobs.tracking.logged_model import log_model

        return log_model(self.ref, detector, registered)

    def log_model_once(self, detector: Path, registered: str | None) -> str:
        """Log a pyfunc from code, unless the run has one."""
        from adjobs.tracking.logged_model import log_model_once

        return log_model_once(self.ref, detector, registered)

    def record_job(self, job: JobConfig, dataset: DatasetInfo) -> None:
        """Record a job as parameters, a data set input and artifacts."""
        from mlflow.entities import Dataset, DatasetInput, InputTag, Param

        values = distinguishing_params(job, self._varied())
        params = [Param(key, value[:MAX_PARAM_LENGTH]) for key, value in values.items()]
        stored = Dataset(
            name=Path(job.data.uri.rstrip("/")).name,
            digest=dataset.fingerprint[:MAX_DIGEST],
            source_type="adjobs",
            source=json.dumps({"uri": job.data.uri, "format": dataset.format}),
            profile=json.dumps(dataset.counts),
        )
        with mlflow_errors(self.ref.tracking_uri):
            for start in range(0, len(params), MAX_BATCH):
                self._client.log_batch(self.ref.run_id, params=params[start : start + MAX_BATCH])
            self._log_input(DatasetInput(stored, [InputTag("mlflow.data.context", "training")]))
        log_job_files(self, job, dataset)

    def _varied(self) -> Collection[str]:
        """The keys of a job that differ between the trials of a search, if this is one."""
        with mlflow_errors(self.ref.tracking_uri):
            tags = self._client.get_run(self.ref.run_id).data.tags
        return dict(json.loads(tags.get(f"{TAG}params", "{}")))

    def _log_input(self, dataset: Any) -> None:
        """Log the data set. MLflow looks for it, then adds it: if another job adds it in between, a second call finds it."""
        from mlflow.exceptions import MlflowException

        try:
            self._client.log_inputs(self.ref.run_id, [dataset])
        except MlflowException as error:
            if not any(text in str(error) for text in DUPLICATE_TEXTS):
                raise
            self._client.log_inputs(self.ref.run_id, [dataset])

    def reopen(self, tags: Mapping[str, str]) -> None:
        """Set an ended run to running again. MLflow cannot take its end back: its UI shows the old one until the run ends."""
        with mlflow_errors(self.ref.tracking_uri):
            self._client.update_run(self.ref.run_id, status=str(JobStatus.RUNNING))
        self.set_tags({**tags, "error": ""})

    def close(self, status: JobStatus, error: BaseException | None = None) -> None:
        """End the run."""
        if error is not None:
            self.set_tags({"error": one_line(error)})
        with mlflow_errors(self.ref.tracking_uri):
            self._client.set_terminated(self.ref.run_id, str(status))


def log_job_files(writer: RunWriter, job: JobConfig, dataset: DatasetInfo) -> None:
    """Store the job file, the split, and the problems of the data."""
    by_severity = {
        severity: [vars(problem) for problem in dataset.problems if problem.severity == severity]
        for severity in ("error", "warning")
    }
    writer.log_text(job.to_yaml(), JOB_FILE)
    writer.log_json(dataset.split.to_dict(), SPLIT_FILE)
    writer.log_json({"excluded": by_severity["error"], "warnings": by_severity["warning"]}, PREFLIGHT_FILE)


def read_history(client: Any, ref: RunRef, names: list[str]) -> History:
    """Histories of metrics, of a repeated interval in the order of recording."""
    with mlflow_errors(ref.tracking_uri):
        points = {name: client.get_metric_history(ref.run_id, name) for name in names}
    ordered = {name: sorted(values, key=lambda point: (point.step, point.timestamp)) for name, values in points.items()}
    return {name: [(point.step, point.value) for point in values] for name, values in ordered.items()}
