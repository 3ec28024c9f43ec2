"""All that a report says of a run, read back from MLflow: enough to draw the page without asking again."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from adjobs import methods
from adjobs.data.splits.assignment import SplitAssignment
from adjobs.errors import DataError, TrackingError
from adjobs.metrics.intervals import Estimate
from adjobs.metrics.region import SIZES
from adjobs.reporting.figures import History
from adjobs.tracking.client import connect, mlflow_errors
from adjobs.tracking.run import JOB_FILE, METRICS_FILE, PREFLIGHT_FILE, SPLIT_FILE, TAG, THRESHOLDS_FILE, url

_DOCUMENTS = (JOB_FILE, SPLIT_FILE, METRICS_FILE, THRESHOLDS_FILE, PREFLIGHT_FILE)
_FIGURES = "figures"
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Group:
    """Measures of some of a part's images: how many there are, and the estimates by name."""

    count: int | None
    measures: Mapping[str, Estimate]


@dataclass(frozen=True)
class Part:
    """Measures of one part: of all its images, by type of defect, and by size of the defect regions (see `SIZES`)."""

    overall: Mapping[str, Estimate]
    by_defect: Mapping[str, Group] = field(default_factory=dict)
    by_region_size: Mapping[str, Group] = field(default_factory=dict)


@dataclass(frozen=True)
class RunReport:
    """A run as far as it got: what it did not leave behind is empty or None.

    Attributes:
        run_id: of MLflow.
        name: of the run.
        experiment: its name.
        status: ``FINISHED``, ``FAILED``, ``KILLED`` or ``RUNNING``.
        started: in UTC.
        ended: in UTC; None while it runs.
        link: the run's page in the MLflow UI.
        tags: those of adjobs, without their prefix.
        job: the resolved job file.
        split: which image was in which part.
        data: ``uri``, ``format``, and ``counts`` of images such as ``train/normal``.
        parts: measures of ``val`` and ``test``.
        confidence: of the intervals; None where the run has none.
        thresholds: as ``thresholds.json`` holds them: ``image``, ``pixel``, and the ``history`` of changes after the training.
        excluded: images left out, each with ``sample``, ``kind`` and ``message``.
        warnings: problems of images that were used all the same.
        history: values round by round.
        figures: PNG files by name, without folder and suffix.
        card: the method's card, Markdown.
    """

    run_id: str
    name: str
    experiment: str
    status: str
    started: datetime | None = None
    ended: datetime | None = None
    link: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    job: str | None = None
    split: SplitAssignment | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, Part] = field(default_factory=dict)
    confidence: float | None = None
    thresholds: Mapping[str, Any] = field(default_factory=dict)
    excluded: tuple[Mapping[str, str], ...] = ()
    warnings: tuple[Mapping[str, str], ...] = ()
    history: History = field(default_factory=dict)
    figures: Mapping[str, bytes] = field(default_factory=dict)
    card: str | None = None


def gather(uri: str, run_id: str) -> RunReport:
    """Read a run, also one that failed on its way.

    Args:
        uri: tracking URI.
        run_id: the run.

    Raises:
        TrackingError: MLflow does not answer, there is no such run, or it is not one of adjobs.
    """
    client = connect(uri)
    with mlflow_errors(uri):
        run = client.get_run(run_id)
    tags = {key.removeprefix(TAG): value for key, value in run.data.tags.items() if key.startswith(TAG)}
    if "method" not in tags:
        raise TrackingError(f"run {run_id}: not a run of adjobs; give the run id that 'adjobs train' printed")
    with mlflow_errors(uri):
        experiment = client.get_experiment(run.info.experiment_id).name
        names = [name for name in run.data.metrics if name.startswith(("train/", "val/"))]
        points = {name: client.get_metric_history(run_id, name) for name in names}
        texts, figures = _artifacts(client, run_id)
    measures = _mapping(texts.get(METRICS_FILE))
    preflight = _mapping(texts.get(PREFLIGHT_FILE))
    return RunReport(
        run_id=run_id,
        name=run.info.run_name or run_id,
        experiment=experiment,
        status=run.info.status,
        started=_when(run.info.start_time),
        ended=_when(run.info.end_time),
        link=url(uri, run_id),
        tags=tags,
        job=texts.get(JOB_FILE),
        split=_split(texts.get(SPLIT_FILE)),
        data=_data(run, tags),
        parts=_parts(measures) if measures else _parts_of_metrics(run.data.metrics, tags),
        confidence=measures.get("confidence"),
        thresholds=_mapping(texts.get(THRESHOLDS_FILE)),
        excluded=tuple(preflight.get("excluded", ())),
        warnings=tuple(preflight.get("warnings", ())),
        history={name: [(point.step, point.value) for point in found] for name, found in points.items()},
        figures=figures,
        card=card(tags["method"]),
    )


def card(method: str) -> str | None:
    """The card of a method of this adjobs, Markdown; None where it has no such method, or the method no card."""
    if method not in methods.names():
        return None
    text = files(methods).joinpath(method, "README.md")
    return text.read_text(encoding="utf-8") if text.is_file() else None


def _artifacts(client: Any, run_id: str) -> tuple[dict[str, str], dict[str, bytes]]:
    """The documents that the run left, as text, and its figures."""
    there = {item.path for folder in ("", _FIGURES) for item in client.list_artifacts(run_id, folder)}
    pictures = sorted(path for path in there if path.startswith(f"{_FIGURES}/") and path.endswith(".png"))
    with TemporaryDirectory(prefix="adjobs-") as folder:
        texts = {
            name: Path(client.download_artifacts(run_id, name, folder)).read_text(encoding="utf-8")
            for name in _DOCUMENTS
            if name in there
        }
        found = {Path(path).stem: Path(client.download_artifacts(run_id, path, folder)).read_bytes() for path in pictures}
    return texts, {name: content for name, content in found.items() if content.startswith(_PNG)}


def _mapping(text: str | None) -> dict[str, Any]:
    """A JSON object; empty where it is missing or was cut off when the run was killed."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _split(text: str | None) -> SplitAssignment | None:
    try:
        return SplitAssignment.from_dict(_mapping(text))
    except DataError:
        return None


def _when(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)


def _data(run: Any, tags: Mapping[str, str]) -> dict[str, Any]:
    inputs = run.inputs.dataset_inputs if run.inputs else []
    if not inputs:
        return {}
    dataset = inputs[0].dataset
    return {**_mapping(dataset.source), "counts": _mapping(dataset.profile), "fingerprint": tags.get("data_fingerprint")}


def _parts(measures: Mapping[str, Any]) -> dict[str, Part]:
    return {name: _part(found) for name, found in measures.get("parts", {}).items()}


def _part(found: Mapping[str, Any]) -> Part:
    overall = _estimates(found.get("overall", {}))
    sizes = {size: overall.pop(f"au_pro_{size}") for size in SIZES if f"au_pro_{size}" in overall}
    groups = {name: Group(group.get("count"), _estimates(group)) for name, group in found.get("by_defect", {}).items()}
    return Part(overall, groups, {size: Group(None, {"au_pro": one}) for size, one in sizes.items()})


def _estimates(found: Mapping[str, Any]) -> dict[str, Estimate]:
    return {
        name: Estimate(one.get("value"), one.get("low"), one.get("high"), one.get("reason") or "")
        for name, one in found.items()
        if isinstance(one, dict) and "value" in one
    }


def _parts_of_metrics(metrics: Mapping[str, float], tags: Mapping[str, str]) -> dict[str, Part]:
    """The measures of a run without the file of them: the plain numbers, and the names of the undefined ones."""
    undefined = filter(None, tags.get("undefined_metrics", "").split(", "))
    found: dict[str, float | None] = {**dict.fromkeys(undefined), **metrics}
    found = {name: value for name, value in found.items() if value is None or math.isfinite(value)}
    return {part: Part(_plain(found, part)) for part in ("val", "test") if any(name.startswith(f"{part}/") for name in found)}


def _plain(found: Mapping[str, float | None], part: str) -> dict[str, Estimate]:
    names: Iterable[str] = (name.removeprefix(f"{part}/") for name in found if name.startswith(f"{part}/"))
    return {name: Estimate(found[f"{part}/{name}"]) for name in names if name != "ms_per_image"}
