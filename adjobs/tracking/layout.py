"""What a run holds, and under which names: tags, artifacts, and the types that describe a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

if TYPE_CHECKING:  # what only names tags and files needs neither methods nor data, whose import takes seconds
    from adjobs.config.job import JobConfig
    from adjobs.data.problem import Problem
    from adjobs.data.splits.assignment import SplitAssignment
    from adjobs.types import JobStatus

TAG = "adjobs."  # prefix of our tags in MLflow
JOB_FILE, SPLIT_FILE, PREFLIGHT_FILE = "job.yaml", "split.json", "preflight.json"
METRICS_FILE, THRESHOLDS_FILE = "metrics.json", "thresholds.json"
FIGURES = "figures"
RUN_FILE = "run.json"  # of a run without MLflow: what MLflow would hold of it beside its artifacts
REQUEST_TAG = "request"  # of a run that is opened once, however often it is requested with this id
TEST_COLUMNS = ("image_auroc", "image_ap", "image_recall", "image_specificity", "pixel_ap", "au_pro", "au_spro")
"""Metrics by which people choose: each is a column of MLflow's table of runs, where dozens would hide these."""
UI_QUERY = "?workflowType=machine_learning"  # without it MLflow 3 opens its pages of language models
DESCRIPTION_DPI = 80  # of figures in descriptions: MLflow shows them at their size, and its pages grow with wide ones
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
    """The start of the name of a job's runs: method and data."""
    return f"{job.method}-{Path(job.data.uri.rstrip('/')).name}"


def scores_file(split: str) -> str:
    """Name of the table of image scores of a split."""
    return f"scores/{split}.json"


def artifact_link(run_id: str, path: str) -> str:
    """Where MLflow's pages find an artifact, relative to themselves: for pictures in descriptions.

    >>> artifact_link("4f", "gate/beside-1.png")
    'get-artifact?path=gate%2Fbeside-1.png&run_uuid=4f'
    """
    return f"get-artifact?path={quote(path, safe='')}&run_uuid={run_id}"
