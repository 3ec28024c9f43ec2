"""Runs without MLflow (``track: none``): a folder each, with the artifacts under the names that they have in MLflow.

Beside the artifacts lie ``run.json`` (name, status, times, tags, data set) and ``history.jsonl`` (one line per evaluation
interval).
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adjobs.config.job import JobConfig
from adjobs.errors import TrackingError, one_line
from adjobs.storage.base import atomic_write, disk_errors
from adjobs.tracking.layout import HISTORY_PREFIXES, RUN_FILE, DatasetInfo, RunRef
from adjobs.tracking.reader import RunInfo, RunReader
from adjobs.tracking.writer import History, RunWriter, log_job_files
from adjobs.types import JobStatus

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCHEME = "folder://"
HISTORY_FILE, DETECTOR = "history.jsonl", "detector"


def is_folder(uri: str) -> bool:
    """Whether runs at a tracking URI are folders."""
    return uri.startswith(SCHEME)


def folder_uri(home: Path) -> str:
    """Tracking URI of the runs without MLflow in the user's folder."""
    return f"{SCHEME}{home / 'runs'}"


def create_folder_run(uri: str, name: str, tags: Mapping[str, str]) -> RunRef:
    """Make the folder of a new run."""
    ref = RunRef(uri, uuid.uuid4().hex)
    path = run_folder(ref)
    with disk_errors("create", path):
        path.mkdir(parents=True)
    _write_state(path, {"name": name, "status": JobStatus.RUNNING, "started_at": _now(), "ended_at": None, "tags": dict(tags)})
    return ref


def run_folder(ref: RunRef) -> Path:
    """The folder of a run."""
    return Path(ref.tracking_uri.removeprefix(SCHEME)) / ref.run_id


class FolderRunWriter(RunWriter):
    """Writes into the folder of a run."""

    def __init__(self, ref: RunRef) -> None:
        super().__init__(ref)
        self._path = run_folder(ref)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags."""
        with self._changed() as state:
            state["tags"] |= tags

    def log_metrics(self, values: Mapping[str, float | None], step: int) -> None:
        """Append a line to the history."""
        metrics = {key: float(value) for key, value in values.items() if value is not None}
        with disk_errors("write", self._path), (self._path / HISTORY_FILE).open("a") as file:
            file.write(json.dumps({"step": step, "metrics": metrics}) + "\n")

    def metric_history(self) -> History:
        """What was recorded interval by interval, also before a resume."""
        return {name: values for name, values in _history(self._path).items() if name.startswith(HISTORY_PREFIXES)}

    def set_description(self, text: str) -> None:
        """There is no page that would show it."""

    def log_text(self, text: str, name: str) -> None:
        """Store a text artifact."""
        with disk_errors("write", self._path / name), atomic_write(self._path / name) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def log_figure(self, figure: Figure, name: str, dpi: int | None = None) -> None:
        """Store a figure as PNG, with its own resolution or another."""
        with disk_errors("write", self._path / name), atomic_write(self._path / name) as temporary:
            figure.savefig(temporary, format="png", dpi=dpi or "figure")

    def log_model(self, detector: Path, registered: str | None) -> str:
        """Copy the detector's folder into the run's; returns its path. There is no registry without MLflow."""
        target = self._path / DETECTOR
        temporary = target.with_name(f".{DETECTOR}-{uuid.uuid4().hex[:8]}")
        with disk_errors("write", target):
            shutil.copytree(detector, temporary)
            if target.exists():
                shutil.rmtree(target)
            temporary.rename(target)
        return str(target)

    def record_job(self, job: JobConfig, dataset: DatasetInfo) -> None:
        """Store the job file, the split, and the problems of the data."""
        with self._changed() as state:
            state["dataset"] = {"uri": job.data.uri, "format": dataset.format, "counts": dataset.counts}
        log_job_files(self, job, dataset)

    def reopen(self, tags: Mapping[str, str]) -> None:
        """Set an ended run to running again."""
        with self._changed() as state:
            state |= {"status": JobStatus.RUNNING, "ended_at": None}
            state["tags"] |= {**tags, "error": ""}

    def close(self, status: JobStatus, error: BaseException | None = None) -> None:
        """End the run."""
        with self._changed() as state:
            state |= {"status": status, "ended_at": _now()}
            if error is not None:
                state["tags"]["error"] = one_line(error)

    @contextmanager
    def _changed(self) -> Iterator[dict[str, Any]]:
        state = _read_state(self.ref)
        yield state
        _write_state(self._path, state)


class FolderRunReader(RunReader):
    """Reads the folder of a run."""

    def __init__(self, ref: RunRef) -> None:
        self._path = run_folder(ref)
        state = _read_state(ref)
        super().__init__(
            ref,
            RunInfo(
                name=state["name"],
                experiment="",
                status=JobStatus(state["status"]),
                started_at=datetime.fromisoformat(state["started_at"]),
                ended_at=None if state["ended_at"] is None else datetime.fromisoformat(state["ended_at"]),
                tags=state["tags"],
                metrics=_latest(_history(self._path)),
                dataset=state.get("dataset", {}),
            ),
        )

    def artifacts(self, folder: str = "") -> list[str]:
        """Paths of the artifacts directly in a folder of the run."""
        return sorted(path.relative_to(self._path).as_posix() for path in (self._path / folder).glob("*"))

    def read_bytes(self, name: str) -> bytes:
        """Read an artifact."""
        try:
            return (self._path / name).read_bytes()
        except OSError as error:
            raise TrackingError(f"run {self.ref.run_id}: cannot read {name} ({error.strerror})") from error

    def metric_history(self, prefixes: Sequence[str] = HISTORY_PREFIXES) -> History:
        """Values of the metrics with these prefixes, interval by interval."""
        return {name: values for name, values in _history(self._path).items() if name.startswith(tuple(prefixes))}

    def url(self) -> str | None:
        """There is no server."""
        return None


def _read_state(ref: RunRef) -> dict[str, Any]:
    path = run_folder(ref) / RUN_FILE
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise TrackingError(
            f"run {ref.run_id}: not found in {path.parents[1]}; give the run id that 'adjobs train' printed"
        ) from error


def _write_state(path: Path, state: Mapping[str, Any]) -> None:
    with disk_errors("write", path / RUN_FILE), atomic_write(path / RUN_FILE) as temporary:
        temporary.write_text(json.dumps(state, indent=1), encoding="utf-8")


def _history(path: Path) -> History:
    history: History = {}
    if not (path / HISTORY_FILE).exists():
        return history
    for line in (path / HISTORY_FILE).read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:  # the last line of a run that was killed while writing
            continue
        for name, value in entry["metrics"].items():
            history.setdefault(name, []).append((entry["step"], value))
    # Stable: of a repeated interval the values stay in the order of recording.
    return {name: sorted(values, key=lambda pair: pair[0]) for name, values in history.items()}


def _latest(history: History) -> dict[str, float]:
    return {name: values[-1][1] for name, values in history.items()}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
