"""Reading a run back, also one that failed on its way."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from adjobs.config.resolve import resolve
from adjobs.data.splits.assignment import SplitAssignment
from adjobs.documents import load_yaml
from adjobs.errors import TrackingError
from adjobs.metrics.inputs import check_image_scores
from adjobs.metrics.intervals import Estimate
from adjobs.tracking.client import connect, mlflow_errors
from adjobs.tracking.layout import (
    FIGURES,
    HISTORY_PREFIXES,
    JOB_FILE,
    METRICS_FILE,
    SPLIT_FILE,
    TAG,
    UI_QUERY,
    RunRef,
    StoredRun,
    scores_file,
)
from adjobs.tracking.parents import COMMANDS
from adjobs.tracking.writer import History, read_history
from adjobs.types import ImageScores, JobStatus

PNG_HEADER = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class RunInfo:
    """What is known of a run without its artifacts.

    Attributes:
        name: of the run.
        experiment: its experiment's name; "" for runs without MLflow.
        status: running or how it ended.
        started_at: in UTC.
        ended_at: in UTC; None while it runs.
        tags: those of adjobs, without their prefix.
        metrics: the latest value of each.
        dataset: ``uri``, ``format`` and ``counts``; empty where the run recorded none.
    """

    name: str
    experiment: str
    status: JobStatus
    started_at: datetime | None
    ended_at: datetime | None
    tags: dict[str, str]
    metrics: dict[str, float]
    dataset: dict[str, Any]


class RunReader(ABC):
    """Reads one run; ``info`` is as of the time when the reader was opened."""

    def __init__(self, ref: RunRef, info: RunInfo) -> None:
        self.ref, self.info = ref, info

    @abstractmethod
    def artifacts(self, folder: str = "") -> list[str]:
        """Paths of the artifacts directly in a folder of the run."""

    @abstractmethod
    def read_bytes(self, name: str) -> bytes:
        """An artifact."""

    @abstractmethod
    def metric_history(self, prefixes: Sequence[str] = HISTORY_PREFIXES) -> History:
        """Values of the metrics with these prefixes, interval by interval."""

    @abstractmethod
    def url(self) -> str | None:
        """The run's page in the MLflow UI; None without a server."""

    def read_text(self, name: str) -> str:
        """A text artifact."""
        return self.read_bytes(name).decode("utf-8")

    def read_json(self, name: str) -> dict[str, Any]:
        """A JSON artifact.

        Raises:
            TrackingError: it is missing or damaged, or MLflow does not answer.
        """
        try:
            return dict(json.loads(self.read_text(name)))
        except TrackingError as error:
            if name in self.artifacts(name.rpartition("/")[0]):
                raise
            raise TrackingError(f"run {self.ref.run_id}: has no {name}; train it again with this version") from error
        except (ValueError, TypeError) as error:
            raise TrackingError(f"run {self.ref.run_id}: {name} is damaged; train it again") from error

    def estimates(self) -> dict[str, Estimate]:
        """The metrics of the run's model by names such as ``test/image_auroc``, with intervals; empty if it did not get so far.

        Raises:
            TrackingError: they are damaged, or MLflow does not answer.
        """
        if METRICS_FILE not in self.artifacts():
            return {}
        try:
            splits = self.read_json(METRICS_FILE)["splits"]
            return {
                f"{split}/{name}": Estimate(stored["value"], stored["low"], stored["high"], stored["reason"])
                for split, metrics in splits.items()
                for name, stored in metrics["overall"].items()
            }
        except (KeyError, TypeError, AttributeError) as error:
            raise TrackingError(f"run {self.ref.run_id}: {METRICS_FILE} is damaged; train it again") from error

    def scores(self, split: str) -> ImageScores:
        """The scores that were stored for a split, without anomaly maps and masks."""
        table = self.read_json(scores_file(split))
        try:
            columns = dict(zip(table["columns"], zip(*table["data"], strict=True), strict=True))
            labels, score = check_image_scores(columns["label"], columns["score"])
            return ImageScores(
                ids=tuple(columns["image"]),
                labels=labels.astype(np.int64),
                score=score,
                defects=tuple(columns["defect"]),
                anomaly_maps=None,
                masks=None,
                groups=columns.get("group"),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise TrackingError(f"run {self.ref.run_id}: {scores_file(split)} is damaged; train it again") from error

    def figures(self) -> dict[str, bytes]:
        """The run's PNG figures by name, without folder and suffix."""
        paths = sorted(path for path in self.artifacts(FIGURES) if path.endswith(".png"))
        contents = {Path(path).stem: self.read_bytes(path) for path in paths}
        return {name: content for name, content in contents.items() if content.startswith(PNG_HEADER)}

    def stored_run(self) -> StoredRun:
        """What is needed to resume the run.

        Raises:
            TrackingError: not a training of adjobs, or its driver died before it had recorded the job.
        """
        tags = self.info.tags
        if not tags.keys() & {"method", "storage"} or tags.get("kind") in COMMANDS:
            raise TrackingError(f"run {self.ref.run_id}: not a training of adjobs; give the run id that 'adjobs train' printed")
        try:
            storage = tags["storage"]
            job, split = self.read_text(JOB_FILE), self.read_json(SPLIT_FILE)
        except (KeyError, TrackingError) as error:
            if "storage" in tags and {JOB_FILE, SPLIT_FILE} <= set(self.artifacts()):
                raise
            raise TrackingError(f"run {self.ref.run_id}: its job is not recorded; start a new run with the job file") from error
        return StoredRun(
            job=resolve(load_yaml(job), source=f"run {self.ref.run_id}"),
            split=SplitAssignment.from_dict(split),
            fingerprint=tags["data_fingerprint"],
            storage=storage,
            status=self.info.status,
            tags=tags,
        )


class MlflowRunReader(RunReader):
    """A run of MLflow."""

    def __init__(self, ref: RunRef) -> None:
        self._client = connect(ref.tracking_uri)
        with mlflow_errors(ref.tracking_uri):
            run = self._client.get_run(ref.run_id)
            experiment = self._client.get_experiment(run.info.experiment_id)
        self._experiment_id = run.info.experiment_id
        super().__init__(ref, run_info(run, experiment.name))

    def artifacts(self, folder: str = "") -> list[str]:
        """Paths of the artifacts directly in a folder of the run."""
        with mlflow_errors(self.ref.tracking_uri):
            return [item.path for item in self._client.list_artifacts(self.ref.run_id, folder)]

    def read_bytes(self, name: str) -> bytes:
        """Download an artifact."""
        with mlflow_errors(self.ref.tracking_uri), TemporaryDirectory(prefix="adjobs-") as folder:
            return Path(self._client.download_artifacts(self.ref.run_id, name, folder)).read_bytes()

    def metric_history(self, prefixes: Sequence[str] = HISTORY_PREFIXES) -> History:
        """Values of the metrics with these prefixes, interval by interval."""
        names = [name for name in self.info.metrics if name.startswith(tuple(prefixes))]
        return read_history(self._client, self.ref, names)

    def url(self) -> str | None:
        """The run's page, without a password that the URI may hold: reports are handed on."""
        uri = self.ref.tracking_uri
        if not uri.startswith("http"):
            return None
        address = urlsplit(uri.rstrip("/"))
        public = address._replace(netloc=address.netloc.rpartition("@")[2]).geturl()
        return f"{public}/#/experiments/{self._experiment_id}/runs/{self.ref.run_id}{UI_QUERY}"


def run_info(run: Any, experiment: str) -> RunInfo:
    """What MLflow says of a run. One that was resumed keeps the end of its last interruption there, which counts for nothing."""
    status = JobStatus(str(run.info.status))
    inputs = run.inputs.dataset_inputs if run.inputs else []
    dataset = inputs[0].dataset if inputs else None
    return RunInfo(
        name=run.info.run_name or run.info.run_id,
        experiment=experiment,
        status=status,
        started_at=_time(run.info.start_time),
        ended_at=None if status == JobStatus.RUNNING else _time(run.info.end_time),
        tags={key.removeprefix(TAG): value for key, value in run.data.tags.items() if key.startswith(TAG)},
        metrics=dict(run.data.metrics),
        dataset={} if dataset is None else {**_mapping(dataset.source), "counts": _mapping(dataset.profile)},
    )


def _time(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)


def _mapping(text: str | None) -> dict[str, Any]:
    """A JSON object; empty where it is missing or damaged."""
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
