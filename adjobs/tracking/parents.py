"""Runs that have children, those of searches and of comparisons: opened, and read back with their children."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from adjobs.errors import Stopped, TrackingError
from adjobs.tracking.client import connect, hint_of_stopped_stack, mlflow_errors
from adjobs.tracking.experiments import experiment_id
from adjobs.tracking.layout import REQUEST_TAG, TAG, RunRef
from adjobs.tracking.lookup import choose, is_start_of_id, mlflow_candidates
from adjobs.tracking.source import source_tags
from adjobs.tracking.writer import MAX_PARAM_LENGTH, MlflowRunWriter
from adjobs.types import JobStatus

METRIC_PREFIX, COST_PREFIX = "val/", "costs/"  # of the metrics at a trial's end
PAGE_SIZE = 200  # runs in one answer of MLflow
COMMANDS = {"search": "adjobs tune", "comparison": "adjobs compare"}
"""By the kind of a run that has children: the command that opens and resumes it."""


@dataclass(frozen=True)
class ChildRun:
    """A run of a search or a comparison as MLflow has it.

    Attributes:
        run_id: of MLflow.
        status: of the run.
        tags: those of adjobs, without their prefix.
        metrics: the latest value of each.
    """

    run_id: str
    status: JobStatus
    tags: Mapping[str, str]
    metrics: Mapping[str, float]

    @property
    def values(self) -> dict[str, float]:
        """Metrics of validation, and costs, by their names in a search."""
        return {
            key.removeprefix(prefix): value
            for key, value in self.metrics.items()
            for prefix in (METRIC_PREFIX, COST_PREFIX)
            if key.startswith(prefix)
        }


def open_parent(
    uri: str,
    kind: str,
    name: str,
    experiment: str,
    tags: Mapping[str, str],
    params: Mapping[str, Any],
    log_files: Callable[[Any, str], None],
) -> RunRef:
    """Open the run of a search or a comparison; it is found by its name as soon as it is complete.

    An earlier one that failed before anything came of it loses its name to the new one.

    Args:
        uri: tracking URI.
        kind: value of its tag ``kind``, and the name of the tag that holds its name.
        name: of the search or comparison.
        experiment: of MLflow.
        tags: more tags.
        params: its parameters.
        log_files: logs what is needed to resume it, with a client and the run's id.

    Raises:
        TrackingError: the name is taken.
    """
    client = connect(uri)
    earlier = _find_runs(client, uri, kind, name)
    if not all(_is_void(client, uri, run) for run in earlier):
        resume = f"resume it with '{COMMANDS[kind]} --resume {name}'"
        raise TrackingError(f"{kind} '{name}': exists already; {resume}, or give another --name")
    parent = experiment_id(client, uri, experiment)
    with mlflow_errors(uri):
        own = {f"{TAG}{key}": value for key, value in {"kind": kind, **tags}.items()}
        source = source_tags(is_job=tags.get("ray_job", "none") != "none")
        run = client.create_run(parent, run_name=name, tags=own | source)
        ref = RunRef(uri, str(run.info.run_id))
        try:
            for key, value in params.items():
                client.log_param(ref.run_id, key, str(value)[:MAX_PARAM_LENGTH])
            log_files(client, ref.run_id)
            for void in earlier:
                client.delete_tag(void.info.run_id, f"{TAG}{kind}")
            client.set_tag(ref.run_id, f"{TAG}{kind}", name)  # last: what is found by its name is complete
        except BaseException as error:
            with suppress(TrackingError):  # the first error is shown
                status = JobStatus.KILLED if isinstance(error, KeyboardInterrupt | Stopped) else JobStatus.FAILED
                MlflowRunWriter(ref).close(status, error)
            raise
    return ref


def _is_void(client: Any, uri: str, run: Any) -> bool:
    """Whether a search or a comparison failed before anything came of it: each of its runs, if any, failed or has no figures."""
    if JobStatus(str(run.info.status)) != JobStatus.FAILED:
        return False
    filter_ = f"tags.`mlflow.parentRunId` = '{run.info.run_id}'"
    children = [child_run(one) for one in search_runs(client, uri, [run.info.experiment_id], filter_)]
    return all(child.status == JobStatus.FAILED or (child.status == JobStatus.KILLED and not child.metrics) for child in children)


def find_parent(uri: str, kind: str, name: str) -> tuple[ChildRun, list[ChildRun]]:
    """The run of a search or a comparison, by its name, its id or the start of that, and its children.

    Raises:
        TrackingError: there is none, or several ids start so.
    """
    client = connect(uri)
    runs = _find_runs(client, uri, kind, name)
    if not runs and is_start_of_id(name) and (candidates := mlflow_candidates(client, uri, name)):
        runs = _find_runs(client, uri, kind, choose(name, candidates, uri).run_id)
    if not runs:
        hint = hint_of_stopped_stack(uri)
        raise TrackingError(f"{kind} '{name}': does not exist; give the name that '{COMMANDS[kind]}' printed{hint}")
    parent = child_run(runs[0])
    filter_ = f"tags.`mlflow.parentRunId` = '{parent.run_id}'"
    return parent, [child_run(run) for run in search_runs(client, uri, [runs[0].info.experiment_id], filter_)]


def _find_runs(client: Any, uri: str, kind: str, name: str) -> Sequence[Any]:
    """The run of a search or a comparison, by its name, in the tag that is called like its kind, or by its id; or none."""
    if "'" in name:
        raise TrackingError(f'{kind} "{name}": a name must not contain quotation marks; give another --name')
    with mlflow_errors(uri):
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    for condition in (f"tags.`{TAG}{kind}` = '{name}'", f"attributes.run_id = '{name}'"):
        runs = search_runs(client, uri, experiments, f"tags.`{TAG}kind` = '{kind}' and {condition}")
        complete = [run for run in runs if f"{TAG}{kind}" in run.data.tags]  # also of those looked up by id
        if complete:
            return complete
    return []


def find_requested_run(uri: str, experiment: str, request_id: str) -> RunRef | None:
    """The run that was opened under an id; None if there is none.

    Raises:
        TrackingError: MLflow does not answer.
    """
    client = connect(uri)
    filter_ = f"tags.`{TAG}{REQUEST_TAG}` = '{request_id}'"
    runs = search_runs(client, uri, [experiment_id(client, uri, experiment)], filter_)
    oldest = min(runs, key=lambda run: run.info.start_time, default=None)
    return None if oldest is None else RunRef(uri, str(oldest.info.run_id))


def search_runs(client: Any, uri: str, experiments: Sequence[str], filter_: str) -> list[Any]:
    """All runs that a filter matches, page by page."""
    runs: list[Any] = []
    token = None
    with mlflow_errors(uri):
        while True:
            page = client.search_runs(list(experiments), filter_, max_results=PAGE_SIZE, page_token=token)
            runs += list(page)
            token = page.token
            if not token:
                return runs


def child_run(run: Any) -> ChildRun:
    """A run of MLflow."""
    tags = {key.removeprefix(TAG): value for key, value in run.data.tags.items() if key.startswith(TAG)}
    return ChildRun(str(run.info.run_id), JobStatus(str(run.info.status)), tags, dict(run.data.metrics))
