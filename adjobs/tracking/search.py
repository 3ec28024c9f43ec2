"""A search in MLflow: a parent run, and a child run for each trial. They are all that is needed to resume it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adjobs.config.job import JobConfig
from adjobs.config.resolve import resolve
from adjobs.documents import dump_yaml, load_yaml
from adjobs.tracking.client import connect, mlflow_errors
from adjobs.tracking.layout import FIGURES, JOB_FILE, TAG, ParentRun, RunRef
from adjobs.tracking.parents import METRIC_PREFIX, ChildRun, find_parent, open_parent
from adjobs.tracking.reader import MlflowRunReader
from adjobs.tracking.writer import MlflowRunWriter, read_history
from adjobs.types import JobStatus

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SPACE_FILE, OPTIONS_FILE, BEST_FILE, TRIALS_FILE = "space.yaml", "search.json", "best.yaml", "trials.json"
SEARCH, TRIAL, FINAL = "search", "trial", "final"  # values of the tag kind
MAX_TAG_LENGTH = 5000


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
    if job.track is None:
        raise ValueError("a job with track: none has no experiment")
    params = {"method": job.method, "data.uri": job.data.uri, **options}

    def log_files(client: Any, run_id: str) -> None:
        client.log_text(run_id, job.to_yaml(), JOB_FILE)
        client.log_text(run_id, dump_yaml(dict(space)), SPACE_FILE)
        client.log_dict(run_id, dict(options), OPTIONS_FILE)

    return open_parent(uri, SEARCH, name, job.track.experiment, {"method": job.method, **tags}, params, log_files)


def find_search(uri: str, name: str) -> StoredSearch:
    """Read a search back, by its name or run id.

    Raises:
        TrackingError: there is no such search.
    """
    search, children = find_parent(uri, SEARCH, name)
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
