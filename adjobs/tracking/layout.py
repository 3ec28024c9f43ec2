"""What a run holds, and under which names: tags, artifacts, and the types that describe a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # what only names tags and files needs neither methods nor data, whose import takes seconds
    from adjobs.config.job import JobConfig
    from adjobs.data.problem import Problem
    from adjobs.data.splits.assignment import SplitAssignment
    from adjobs.types import JobStatus

TAG = "adjobs."  # prefix of our tags in MLflow
JOB_FILE, SPLIT_FILE, PREFLIGHT_FILE = "job.yaml", "split.json", "preflight.json"
METRICS_FILE, THRESHOLDS_FILE = "metrics.json", "thresholds.json"
FIGURES = "figures"
REQUEST_TAG = "request"  # of a run that is opened once, however often it is requested with this id
HISTORY_PREFIXES = ("train/", "val/")  # metrics that are logged once per evaluation interval


class RunRef(NamedTuple):
    """Where a run is recorded: an MLflow server or database, or ``folder://`` and a path for runs without MLflow."""

    tracking_uri: str
    run_id: str


class ParentRun(NamedTuple):
    """The search that a run belongs to: the search's run id, this run's kind, and what follows the name of the run."""

    search: str
    kind: str
    suffix: str


@dataclass(frozen=True)
class DatasetInfo:
    """What a run records of its data: ``counts`` has images by split and label, such as ``train/normal``."""

    fingerprint: str
    format: str
    counts: dict[str, int]
    split: SplitAssignment
    problems: Sequence[Problem] = ()


@dataclass(frozen=True)
class StoredRun:
    """An earlier run, enough to resume it."""

    job: JobConfig
    split: SplitAssignment
    fingerprint: str
    storage: str
    status: JobStatus
    tags: dict[str, str]


def run_name(job: JobConfig) -> str:
    """A name for runs of a job: method and data."""
    return f"{job.method}-{Path(job.data.uri.rstrip('/')).name}"


def scores_file(split: str) -> str:
    """Name of the table of image scores of a split."""
    return f"scores/{split}.json"
