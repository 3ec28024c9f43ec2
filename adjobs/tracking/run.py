"""One MLflow run per job: opened once by whoever launches the job, written to by rank 0, closed once by the launcher."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import yaml

from adjobs.config.job import JobConfig
from adjobs.config.resolve import resolve
from adjobs.data.checks.problem import Problem
from adjobs.data.splits.assignment import SplitAssignment
from adjobs.errors import TrackingError, one_line
from adjobs.metrics import METRICS_VERSION
from adjobs.tracking.client import connect, experiment_id, mlflow_errors
from adjobs.types import ImageScores
from adjobs.version import __version__

TAG = "adjobs."
JOB_FILE, SPLIT_FILE, PREFLIGHT_FILE = "job.yaml", "split.json", "preflight.json"
METRICS_FILE, THRESHOLDS_FILE = "metrics.json", "thresholds.json"


@dataclass(frozen=True)
class DatasetInfo:
    """What a run records of its data."""

    fingerprint: str
    format: str
    counts: dict[str, int]
    split: SplitAssignment
    problems: Sequence[Problem] = ()


class ParentRun(NamedTuple):
    """The search that a run belongs to: its run id, this run's part in it, and what follows the name of the run."""

    search: str
    kind: str
    suffix: str


def start(
    uri: str, job: JobConfig, data: DatasetInfo, storage: str, tags: Mapping[str, str], under: ParentRun | None = None
) -> str:
    """Open a run and record the job: parameters, tags, data set, split. Returns its id.

    Args:
        uri: tracking URI.
        job: the resolved job.
        data: what is known of the data.
        storage: where checkpoints go; ``{run}`` stands for the run's id.
        tags: more tags, such as the Ray job's id.
        under: the search that it belongs to.

    Raises:
        TrackingError: MLflow is down or refuses.
    """
    client = connect(uri)
    experiment = experiment_id(client, uri, job.track.experiment)
    own = {
        "method": job.method,
        "data_fingerprint": data.fingerprint,
        "data_format": data.format,
        "preset": job.preset or "none",
        "supervision": job.supervision,
        "version": __version__,
        "metrics_version": str(METRICS_VERSION),
        "git_commit": git_commit() or "unknown",
        "excluded": str(sum(problem.severity == "error" for problem in data.problems)),
        "warnings": str(sum(problem.severity == "warning" for problem in data.problems)),
        **tags,
    }
    with mlflow_errors(uri):
        name = name_of(job)
        nested = {}
        if under is not None:
            own["kind"], name = under.kind, f"{name}-{under.suffix}"
            nested = {"mlflow.parentRunId": under.search}
        run = client.create_run(experiment, run_name=name, tags={f"{TAG}{key}": value for key, value in own.items()} | nested)
        run_id = str(run.info.run_id)
        try:
            client.set_tag(run_id, f"{TAG}storage", storage.replace("{run}", run_id))
            record(uri, run_id, job, data)
        except BaseException:
            client.set_terminated(run_id, "FAILED")
            raise
    return run_id


def name_of(job: JobConfig) -> str:
    """A name for runs of a job: method and data."""
    return f"{job.method}-{Path(job.data.uri.rstrip('/')).name}"


def record(uri: str, run_id: str, job: JobConfig, data: DatasetInfo) -> None:
    """Record a job in its run; once more does no harm."""
    with mlflow_errors(uri):
        _record(connect(uri), run_id, job, data)


def _record(client: Any, run_id: str, job: JobConfig, data: DatasetInfo) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag, Param

    flat = {
        "method": job.method,
        "preset": job.preset,
        **flatten(job.model_dump(mode="json", exclude={"method", "preset"})),
    }
    # MLflow refuses longer values; none of ours comes near, a URI might.
    params = [Param(key, str(value)[:6000]) for key, value in flat.items()]
    for begin in range(0, len(params), 100):  # the most that one request may carry
        client.log_batch(run_id, params=params[begin : begin + 100])
    dataset = Dataset(
        name=Path(job.data.uri.rstrip("/")).name,
        digest=data.fingerprint[:36],  # MLflow's limit
        source_type="adjobs",
        source=json.dumps({"uri": job.data.uri, "format": data.format}),
        profile=json.dumps(data.counts),
    )
    client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
    client.log_text(run_id, job.to_yaml(), JOB_FILE)
    client.log_dict(run_id, data.split.to_dict(), SPLIT_FILE)
    found = {severity: [vars(p) for p in data.problems if p.severity == severity] for severity in ("error", "warning")}
    client.log_dict(run_id, {"excluded": found["error"], "warnings": found["warning"]}, PREFLIGHT_FILE)


def flatten(section: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted keys of a nested mapping.

    >>> flatten({"train": {"workers": 2}})
    {'train.workers': 2}
    """
    flat: dict[str, Any] = {}
    for key, value in section.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


@dataclass(frozen=True)
class StoredRun:
    """An earlier run, enough to go on with it."""

    job: JobConfig
    split: SplitAssignment
    fingerprint: str
    storage: str
    status: str
    tags: dict[str, str]


def stored(uri: str, run_id: str) -> StoredRun:
    """Read back what ``start`` recorded.

    Raises:
        TrackingError: no such run, or not one of adjobs.
    """
    client = connect(uri)
    with mlflow_errors(uri):
        run = client.get_run(run_id)
    tags = {key.removeprefix(TAG): value for key, value in run.data.tags.items() if key.startswith(TAG)}
    if "storage" not in tags:
        raise TrackingError(f"run {run_id}: not a run of adjobs; give the run id that 'adjobs train' printed")
    return StoredRun(
        job=resolve(yaml.safe_load(read_text(client, uri, run_id, JOB_FILE)), source=f"run {run_id}"),
        split=SplitAssignment.from_dict(json.loads(read_text(client, uri, run_id, SPLIT_FILE))),
        fingerprint=tags["data_fingerprint"],
        storage=tags["storage"],
        status=str(run.info.status),
        tags=tags,
    )


def read_text(client: Any, uri: str, run_id: str, name: str) -> str:
    """A text artifact of a run."""
    from tempfile import TemporaryDirectory

    with mlflow_errors(uri), TemporaryDirectory() as folder:
        return Path(client.download_artifacts(run_id, name, folder)).read_text()


def close(uri: str, run_id: str, status: str, error: BaseException | None = None) -> None:
    """End a run: ``FINISHED``, ``FAILED`` (with the error as a tag), or ``KILLED``."""
    client = connect(uri)
    with mlflow_errors(uri):
        if error is not None:
            client.set_tag(run_id, f"{TAG}error", one_line(error))
        client.set_terminated(run_id, status)


def reopen(uri: str, run_id: str, tags: Mapping[str, str]) -> None:
    """Set an ended run to running again, for a resume."""
    client = connect(uri)
    with mlflow_errors(uri):
        client.update_run(run_id, status="RUNNING")
        for key, value in {**tags, "error": ""}.items():
            client.set_tag(run_id, f"{TAG}{key}", value)


def url(uri: str, run_id: str) -> str | None:
    """The run's page in the MLflow UI, without a password that the URI may hold: reports are handed on; None without a server."""
    if not uri.startswith("http"):
        return None
    client = connect(uri)
    parts = urlsplit(uri.rstrip("/"))
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    with mlflow_errors(uri):
        return f"{bare}/#/experiments/{client.get_run(run_id).info.experiment_id}/runs/{run_id}"


class RunWriter:
    """Writes into an open run. Used on rank 0; safe to repeat after a restart, because every name is written again."""

    def __init__(self, uri: str, run_id: str) -> None:
        self.uri, self.run_id = uri, run_id
        self.client = connect(uri)

    def metrics(self, values: Mapping[str, float | None], step: int) -> None:
        """Log numbers of one round in one request; undefined ones are left out."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(key, float(value), now, step) for key, value in values.items() if value is not None]
        with mlflow_errors(self.uri):
            self.client.log_batch(self.run_id, metrics=metrics)

    def history(self) -> dict[str, list[tuple[int, float]]]:
        """What was recorded round by round, also before a resume: (round, value) by metric, in the order of recording."""
        with mlflow_errors(self.uri):
            names = [name for name in self.client.get_run(self.run_id).data.metrics if name.startswith(("train/", "val/"))]
            points = {name: self.client.get_metric_history(self.run_id, name) for name in names}
        in_time = {name: sorted(found, key=lambda point: (point.step, point.timestamp)) for name, found in points.items()}
        return {name: [(point.step, point.value) for point in found] for name, found in in_time.items()}

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags under our prefix."""
        with mlflow_errors(self.uri):
            for key, value in values.items():
                self.client.set_tag(self.run_id, f"{TAG}{key}", value)

    def document(self, value: Mapping[str, Any], name: str) -> None:
        """Store a mapping as a JSON artifact."""
        with mlflow_errors(self.uri):
            self.client.log_dict(self.run_id, dict(value), name)

    def figure(self, figure: Any, name: str) -> None:
        """Store a matplotlib figure as a PNG artifact."""
        with mlflow_errors(self.uri):
            self.client.log_figure(self.run_id, figure, name)

    def scores(self, scores: ImageScores, threshold: float, part: str) -> None:
        """Store the scores of every image as a table. A repeated call replaces it: MLflow would append."""
        columns = {
            "image": list(scores.ids),
            "label": scores.labels.tolist(),
            "defect": list(scores.defects),
            "score": scores.score.tolist(),
            "decision": (scores.score >= threshold).astype(int).tolist(),
        }
        rows = list(zip(*columns.values(), strict=True))
        self.document({"columns": list(columns), "data": [list(row) for row in rows]}, f"scores/{part}.json")


def git_commit() -> str | None:
    """The commit of the current folder, if it is a git work tree."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
