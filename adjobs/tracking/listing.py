"""Lists of runs, those of MLflow and those without, the latest first."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from adjobs.errors import TrackingError, choices, shown
from adjobs.tracking.client import connect, mlflow_errors
from adjobs.tracking.folder import FolderRunReader, folder_uri
from adjobs.tracking.layout import RUN_FILE, TAG, TEST_COLUMNS, RunRef
from adjobs.tracking.lookup import has_runs
from adjobs.tracking.reader import RunInfo, run_info

TRAINING = "training"
"""Kind of a run that nothing else has started."""

CHILD_KINDS = ("trial", "candidate")
"""Kinds of runs that searches and comparisons start by the dozen; they are listed on request."""

_PARENT_PREFIXES = ("best/", "chosen/test/")  # of metrics of searches and comparisons
_EARLIEST = datetime(1, 1, 1, tzinfo=UTC)
_PAGE_SIZE = 200  # runs in one answer of MLflow


@dataclass(frozen=True)
class RunFilter:
    """Which runs are listed; None is all.

    Attributes:
        method: its name.
        state: running, or how the run ended: a value of :class:`adjobs.types.JobStatus`.
        experiment: of MLflow; runs without MLflow have none.
        children: whether trials and candidates of searches and comparisons are listed.
    """

    method: str | None = None
    state: str | None = None
    experiment: str | None = None
    children: bool = False

    def matches(self, info: RunInfo) -> bool:
        """Whether a run is listed."""
        return (
            self.method in (None, info.tags.get("method"))
            and self.state in (None, str(info.status))
            and self.experiment in (None, info.experiment)
            and (self.children or kind_of(info) not in CHILD_KINDS)
        )


class ListedRun(NamedTuple):
    """A run of a list."""

    ref: RunRef
    info: RunInfo

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        info, main = self.info, main_metric(self.info)
        return {
            "run_id": self.ref.run_id,
            "name": info.name,
            "kind": kind_of(info),
            "method": info.tags.get("method"),
            "data": info.dataset.get("uri"),
            "state": str(info.status),
            "metric": None if main is None else {"name": main[0], "value": main[1]},
            "experiment": info.experiment or None,
            "tracking_uri": self.ref.tracking_uri,
            "started_at": None if info.started_at is None else info.started_at.isoformat(),
            "ended_at": None if info.ended_at is None else info.ended_at.isoformat(),
        }


class RunList(NamedTuple):
    """Runs, the latest first.

    Attributes:
        runs: as many as were requested.
        has_more: there are earlier ones.
        unreachable: why those of MLflow are missing; None if they are not.
    """

    runs: list[ListedRun]
    has_more: bool
    unreachable: TrackingError | None = None


def list_runs(tracking_uri: str, home: Path, wanted: RunFilter, limit: int) -> RunList:
    """The latest runs.

    Args:
        tracking_uri: of MLflow.
        home: the user's folder, which has the runs without MLflow.
        wanted: which runs.
        limit: their number at most, 1 or more.

    Raises:
        TrackingError: MLflow does not answer and there is no run without it, or there is no such experiment.
    """
    local = sorted(_folder_runs(home, wanted), key=_start, reverse=True)
    try:
        in_mlflow = list(itertools.islice(_mlflow_runs(tracking_uri, wanted), limit + 1)) if has_runs(tracking_uri) else []
        unreachable = None
    except TrackingError as error:
        if not local:
            raise
        in_mlflow, unreachable = [], error
    runs = list(itertools.islice(heapq.merge(in_mlflow, local, key=_start, reverse=True), limit + 1))
    return RunList(runs[:limit], len(runs) > limit, unreachable)


def kind_of(info: RunInfo) -> str:
    """What a run is: a training, or what a search or a comparison names its runs."""
    return info.tags.get("kind", TRAINING)


def main_metric(info: RunInfo) -> tuple[str, float] | None:
    """The metric by which a run is chosen: of the test split, else of validation, else the loss; None before there is any."""
    ordered = [f"{split}/{name}" for split in ("test", "val") for name in TEST_COLUMNS]
    ordered += sorted(name for name in info.metrics if name.startswith(_PARENT_PREFIXES))
    ordered += sorted(name for name in info.metrics if name.startswith("train/") and name.endswith("loss"))
    return next(((name, info.metrics[name]) for name in ordered if name in info.metrics), None)


def _start(run: ListedRun) -> datetime:
    return run.info.started_at or _EARLIEST


def _folder_runs(home: Path, wanted: RunFilter) -> Iterator[ListedRun]:
    uri = folder_uri(home)
    for path in (home / "runs").glob(f"*/{RUN_FILE}"):
        ref = RunRef(uri, path.parent.name)
        try:
            info = FolderRunReader(ref).info
        except (TrackingError, KeyError, TypeError, ValueError):  # damaged; `runs show` says so
            continue
        if wanted.matches(info):
            yield ListedRun(ref, info)


def _mlflow_runs(uri: str, wanted: RunFilter) -> Iterator[ListedRun]:
    """Runs of adjobs, page by page, the latest first."""
    client = connect(uri)
    with mlflow_errors(uri):
        names = {experiment.experiment_id: experiment.name for experiment in client.search_experiments()}
    if wanted.experiment is not None:
        if wanted.experiment not in names.values():
            known = choices(wanted.experiment, names.values())
            raise TrackingError(f"experiment {shown(wanted.experiment)}: does not exist; {known}")
        names = {key: name for key, name in names.items() if name == wanted.experiment}
    for run in _pages(client, uri, list(names), _condition(wanted)):
        if any(key.startswith(TAG) for key in run.data.tags):
            info = run_info(run, names[run.info.experiment_id])
            if not info.dataset and "data.uri" in run.data.params:  # of a search or a comparison
                info = replace(info, dataset={"uri": run.data.params["data.uri"]})
            if wanted.matches(info):
                yield ListedRun(RunRef(uri, str(run.info.run_id)), info)


def _condition(wanted: RunFilter) -> str:
    """What MLflow can filter by itself."""
    method = [] if wanted.method is None or "'" in wanted.method else [f"tags.`{TAG}method` = '{wanted.method}'"]
    state = [] if wanted.state is None else [f"attributes.status = '{wanted.state}'"]
    return " and ".join([*method, *state])


def _pages(client: Any, uri: str, experiments: list[str], condition: str) -> Iterable[Any]:
    token = None
    while experiments:
        with mlflow_errors(uri):
            page = client.search_runs(
                experiments, condition, max_results=_PAGE_SIZE, order_by=["attributes.start_time DESC"], page_token=token
            )
        yield from page
        token = page.token
        if not token:
            return
