"""A search in MLflow: a parent run, and a child run for each trial. They are all that is needed to resume it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adjobs.config.job import JobConfig
from adjobs.config.resolve import resolve
from adjobs.documents import dump_yaml, load_yaml
from adjobs.errors import TrackingError
from adjobs.tracking.client import connect, experiment_id, hint_of_stopped_stack, mlflow_errors
from adjobs.tracking.layout import FIGURES, JOB_FILE, TAG, ParentRun, RunRef
from adjobs.tracking.reader import MlflowRunReader
from adjobs.tracking.writer import MAX_PARAM_LENGTH, MlflowRunWriter, read_history
from adjobs.types import JobStatus

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SPACE_FILE, OPTIONS_FILE, BEST_FILE, TRIALS_FILE = "space.yaml", "search.json", "best.yaml", "trials.json"
METRIC_PREFIX, COST_PREFIX = "val/", "costs/"  # of the metrics at a trial's end
SEARCH, TRIAL, FINAL = "search", "trial", "final"  # values of the tag kind
MAX_TAG_LENGTH = 5000
PAGE_SIZE = 200  # runs in one answer of MLflow


@dataclass(frozen=True)
class ChildRun:
    """A run of a search as MLflow has it.

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


@dataclass(frozen=True)
class StoredSearch:
    """A search as MLflow has it.

    Attributes:
        ref: its run.
        status: of its run.
        tags: those of adjobs, without their prefix.
        options: that it was started with.
        job: that is varied.
        space: content of its space file.
        trials: in the order of their numbers.
        final: the final training; None before it was started.
    """

    ref: RunRef
    status: JobStatus
    tags: Mapping[str, str]
    options: Mapping[str, Any]
    job: JobConfig
    space: object
    trials: Sequence[ChildRun] = ()
    final: ChildRun | None = None


def open_search(
    uri: str, name: str, job: JobConfig, space: Mapping[str, Any], options: Mapping[str, Any], tags: Mapping[str, str]
) -> RunRef:
    """Open the run of a search.

    Args:
        uri: tracking URI.
        name: of the search.
        job: the job that is varied.
        space: content of a space file.
        options: of the search, ready for JSON.
        tags: more tags.

    Raises:
        TrackingError: the name is taken.
    """
    client = connect(uri)
    if find_runs(client, uri, SEARCH, name):
        raise TrackingError(
            f"search '{name}': exists already; resume it with 'adjobs tune --resume {name}', or give another --name"
        )
    if job.track is None:
        raise ValueError("a job with track: none has no experiment")
    experiment = experiment_id(client, uri, job.track.experiment)
    all_tags = {"kind": SEARCH, "method": job.method, **tags}
    with mlflow_errors(uri):
        run = client.create_run(experiment, run_name=name, tags={f"{TAG}{key}": value for key, value in all_tags.items()})
        ref = RunRef(uri, str(run.info.run_id))
        for key, value in {"method": job.method, "data.uri": job.data.uri, **options}.items():
            client.log_param(ref.run_id, key, str(value)[:MAX_PARAM_LENGTH])
        client.log_text(ref.run_id, job.to_yaml(), JOB_FILE)
        client.log_text(ref.run_id, dump_yaml(dict(space)), SPACE_FILE)
        client.log_dict(ref.run_id, dict(options), OPTIONS_FILE)
        client.set_tag(ref.run_id, f"{TAG}search", name)  # last: what is found by its name is complete
    return ref


def find_search(uri: str, name: str) -> StoredSearch:
    """Read a search back, by its name or run id.

    Raises:
        TrackingError: there is no such search.
    """
    client = connect(uri)
    runs = find_runs(client, uri, SEARCH, name)
    if not runs:
        hint = hint_of_stopped_stack(uri)
        raise TrackingError(f"search '{name}': does not exist; give the name that 'adjobs tune' printed{hint}")
    search = child_run(runs[0])
    filter_ = f"tags.`mlflow.parentRunId` = '{search.run_id}'"
    children = [child_run(run) for run in search_runs(client, uri, [runs[0].info.experiment_id], filter_)]
    trials = [child for child in children if child.tags.get("kind") == TRIAL]
    reader = MlflowRunReader(RunRef(uri, search.run_id))
    return StoredSearch(
        ref=reader.ref,
        status=search.status,
        tags=search.tags,
        options=reader.read_json(OPTIONS_FILE),
        job=resolve(load_yaml(reader.read_text(JOB_FILE)), source=f"search {name}"),
        space=load_yaml(reader.read_text(SPACE_FILE)),
        trials=sorted(trials, key=lambda trial: int(trial.tags["trial"])),
        final=next((child for child in children if child.tags.get("kind") == FINAL), None),
    )


def trial_history(ref: RunRef, metric: str) -> dict[int, float]:
    """A metric of validation by evaluation interval; of a repeated interval the first value."""
    name = f"{METRIC_PREFIX}{metric}"
    history: dict[int, float] = {}
    for interval, value in read_history(connect(ref.tracking_uri), ref, [name])[name]:
        history.setdefault(interval, value)
    return history


def parent_run(search: str, number: int | None) -> ParentRun:
    """What makes a run a trial of a search, or, without a number, its final training."""
    return ParentRun(search, FINAL, "final") if number is None else ParentRun(search, TRIAL, f"{number:03d}")


class SearchWriter(MlflowRunWriter):
    """Writes into the run of a search, and closes the runs of its trials."""

    def set_trial_tags(self, trial: str, tags: Mapping[str, str]) -> None:
        """Tag the run of a trial."""
        with mlflow_errors(self.ref.tracking_uri):
            for key, value in tags.items():
                self._client.set_tag(trial, f"{TAG}{key}", value[:MAX_TAG_LENGTH])

    def record_outcome(self, trial: str, state: str, tags: Mapping[str, str]) -> None:
        """Record how a trial ended; the state comes last, because with it the trial counts as recorded."""
        self.set_trial_tags(trial, {**tags, "state": state})

    def close_trial(self, trial: str, status: JobStatus) -> None:
        """End the run of a trial."""
        with mlflow_errors(self.ref.tracking_uri):
            self._client.set_terminated(trial, str(status))

    def log_result(self, best: JobConfig, trials: Mapping[str, Any], figures: Mapping[str, Figure]) -> None:
        """Log the best job, ready for ``adjobs train``, how every trial ended, and the figures of the search by name."""
        self.log_text(best.to_yaml(), BEST_FILE)
        self.log_json(trials, TRIALS_FILE)
        for name, figure in figures.items():
            self.log_figure(figure, f"{FIGURES}/{name}.png")


def find_runs(client: Any, uri: str, kind: str, name: str) -> Sequence[Any]:
    """The run of a search or a comparison, by its name, in the tag that is called like its kind, or by its id; or none."""
    if "'" in name:
        raise TrackingError(f'{kind} "{name}": a name must not contain quotation marks; give another --name')
    with mlflow_errors(uri):
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    for condition in (f"tags.`{TAG}{kind}` = '{name}'", f"attributes.run_id = '{name}'"):
        runs = search_runs(client, uri, experiments, f"tags.`{TAG}kind` = '{kind}' and {condition}")
        if runs:
            return runs
    return []


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
