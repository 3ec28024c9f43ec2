"""A search in MLflow: one parent run, and a nested run for each trial. They are all that a search needs to go on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from adjobs.config.job import JobConfig
from adjobs.config.resolve import resolve
from adjobs.errors import TrackingError
from adjobs.tracking.client import connect, experiment_id, mlflow_errors
from adjobs.tracking.run import JOB_FILE, TAG, ParentRun, read_text

SPACE_FILE, SEARCH_FILE, BEST_FILE, TRIALS_FILE = "space.yaml", "search.json", "best.yaml", "trials.json"
MEASURED, COSTS = "val/", "costs/"  # where the metrics of a trial's end stand
SEARCH, TRIAL, FINAL = "search", "trial", "final"  # values of the tag kind


@dataclass(frozen=True)
class ChildRun:
    """A run of a search as MLflow holds it.

    Attributes:
        run_id: of MLflow.
        status: ``FINISHED``, ``FAILED``, ``KILLED`` or ``RUNNING``.
        tags: those of adjobs, without their prefix.
        metrics: the newest of each.
    """

    run_id: str
    status: str
    tags: Mapping[str, str]
    metrics: Mapping[str, float]

    @property
    def values(self) -> dict[str, float]:
        """Measures of validation, and costs, by their names in a search."""
        return {
            key.removeprefix(prefix): value
            for key, value in self.metrics.items()
            for prefix in (MEASURED, COSTS)
            if key.startswith(prefix)
        }


@dataclass(frozen=True)
class StoredSearch:
    """A search as MLflow holds it: ``options`` are those that it was started with."""

    run_id: str
    status: str
    tags: Mapping[str, str]
    options: dict[str, Any]
    job: JobConfig
    space: object
    trials: list[ChildRun] = field(default_factory=list)
    final: ChildRun | None = None


def open_search(
    uri: str, name: str, job: JobConfig, space: Mapping[str, Any], options: Mapping[str, Any], tags: Mapping[str, str]
) -> str:
    """Open the run of a search; returns its id.

    Args:
        uri: tracking URI.
        name: of the search.
        job: the job that is varied.
        space: what varies, as its file holds it.
        options: of the search, ready for JSON.
        tags: more tags.

    Raises:
        TrackingError: there is a search of this name.
    """
    client = connect(uri)
    if _named(client, uri, name):
        raise TrackingError(f"search '{name}': there is one; go on with 'adjobs tune --resume {name}', or give another --name")
    experiment = experiment_id(client, uri, job.track.experiment)
    own = {"kind": SEARCH, "search": name, "method": job.method, **tags}
    with mlflow_errors(uri):
        run = client.create_run(experiment, run_name=name, tags={f"{TAG}{key}": value for key, value in own.items()})
        run_id = str(run.info.run_id)
        for key, value in {"method": job.method, "data.uri": job.data.uri, **options}.items():
            client.log_param(run_id, key, str(value)[:6000])
        client.log_text(run_id, job.to_yaml(), JOB_FILE)
        client.log_text(run_id, yaml.safe_dump(dict(space), sort_keys=False, allow_unicode=True), SPACE_FILE)
        client.log_dict(run_id, dict(options), SEARCH_FILE)
    return run_id


def find_search(uri: str, name: str) -> StoredSearch:
    """Read back a search by its name or run id.

    Raises:
        TrackingError: there is none.
    """
    client = connect(uri)
    found = _named(client, uri, name)
    if not found:
        raise TrackingError(f"search '{name}': there is none; give the name that 'adjobs tune' printed")
    run = found[0]
    run_id = str(run.info.run_id)
    nested = [_nested(one) for one in _search(client, uri, [run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run_id}'")]
    trials = sorted((one for one in nested if one.tags.get("kind") == TRIAL), key=lambda one: int(one.tags["trial"]))
    own = _nested(run)
    return StoredSearch(
        run_id=run_id,
        status=own.status,
        tags=own.tags,
        options=json.loads(read_text(client, uri, run_id, SEARCH_FILE)),
        job=resolve(yaml.safe_load(read_text(client, uri, run_id, JOB_FILE)), source=f"search {name}"),
        space=yaml.safe_load(read_text(client, uri, run_id, SPACE_FILE)),
        trials=trials,
        final=next((one for one in nested if one.tags.get("kind") == FINAL), None),
    )


def history(uri: str, run_id: str, metric: str) -> dict[int, float]:
    """A measure of validation by round; of a round that was repeated, the first value."""
    client = connect(uri)
    with mlflow_errors(uri):
        points = sorted(client.get_metric_history(run_id, f"{MEASURED}{metric}"), key=lambda point: point.timestamp)
    found: dict[int, float] = {}
    for point in points:
        found.setdefault(point.step, point.value)
    return found


def under(run_id: str, number: int | None) -> ParentRun:
    """What makes a run a trial of a search, or its final training if it has no number."""
    return ParentRun(run_id, FINAL, "final") if number is None else ParentRun(run_id, TRIAL, f"{number:03d}")


class SearchRecorder:
    """Writes into the run of a search."""

    def __init__(self, uri: str, run_id: str) -> None:
        self.uri, self.run_id = uri, run_id
        self.client = connect(uri)

    def settle(self, trial: str, outcome: str, tags: Mapping[str, str]) -> None:
        """Say what became of a trial; its outcome last, for the rest is not asked for again once that is there."""
        self.note(trial, {**tags, "outcome": outcome})

    def note(self, trial: str, tags: Mapping[str, str]) -> None:
        """Tag the run of a trial."""
        with mlflow_errors(self.uri):
            for key, value in tags.items():
                self.client.set_tag(trial, f"{TAG}{key}", value[:5000])

    def close(self, trial: str, status: str) -> None:
        """Close the run of a trial."""
        with mlflow_errors(self.uri):
            self.client.set_terminated(trial, status)

    def progress(self, values: Mapping[str, float], step: int) -> None:
        """How far the search is after so many trials."""
        with mlflow_errors(self.uri):
            for key, value in values.items():
                self.client.log_metric(self.run_id, key, value, step=step)

    def outcome(self, best: JobConfig, document: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """The chosen job, ready for ``adjobs train``, and what became of every trial."""
        with mlflow_errors(self.uri):
            self.client.log_text(self.run_id, best.to_yaml(), BEST_FILE)
            self.client.log_dict(self.run_id, dict(document), TRIALS_FILE)
            for key, value in tags.items():
                self.client.set_tag(self.run_id, f"{TAG}{key}", value)

    def figures(self, drawn: Mapping[str, Any]) -> None:
        """Pictures of the search."""
        with mlflow_errors(self.uri):
            for name, figure in drawn.items():
                self.client.log_figure(self.run_id, figure, f"figures/{name}.png")


def _named(client: Any, uri: str, name: str) -> Sequence[Any]:
    """The run of a search, by its name or id."""
    if "'" in name:
        raise TrackingError(f'search "{name}": a name holds no quotation marks; give another --name')
    with mlflow_errors(uri):
        experiments = [one.experiment_id for one in client.search_experiments()]
    kind = f"tags.`{TAG}kind` = '{SEARCH}'"
    for which in (f"tags.`{TAG}search` = '{name}'", f"attributes.run_id = '{name}'"):
        found = _search(client, uri, experiments, f"{kind} and {which}")
        if found:
            return found
    return []


def _search(client: Any, uri: str, experiments: Sequence[str], filter_: str) -> list[Any]:
    """All runs, page by page."""
    found: list[Any] = []
    token = None
    with mlflow_errors(uri):
        while True:
            page = client.search_runs(list(experiments), filter_, max_results=200, page_token=token)
            found += list(page)
            token = page.token
            if not token:
                return found


def _nested(run: Any) -> ChildRun:
    tags = {key.removeprefix(TAG): value for key, value in run.data.tags.items() if key.startswith(TAG)}
    return ChildRun(str(run.info.run_id), str(run.info.status), tags, dict(run.data.metrics))
