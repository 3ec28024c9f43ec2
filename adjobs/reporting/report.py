"""Everything that a report says of a run, read from the run's record: enough to render the page without asking again."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from adjobs import methods
from adjobs.data.splits.assignment import SplitAssignment
from adjobs.errors import DataError, TrackingError
from adjobs.metrics.intervals import Estimate
from adjobs.metrics.region import SIZES
from adjobs.reporting.figures import History
from adjobs.tracking.layout import JOB_FILE, METRICS_FILE, PREFLIGHT_FILE, SPLIT_FILE, THRESHOLDS_FILE
from adjobs.tracking.reader import RunReader
from adjobs.types import ImageScores, JobStatus


@dataclass(frozen=True)
class MetricGroup:
    """Metrics of some images of a split: how many there are (None if unknown), and the estimates by name."""

    count: int | None
    metrics: Mapping[str, Estimate]


@dataclass(frozen=True)
class SplitReport:
    """Metrics of one split: of all its images, by defect type, and by size of the defect regions (see `SIZES`)."""

    overall: Mapping[str, Estimate]
    by_defect: Mapping[str, MetricGroup] = field(default_factory=dict)
    by_region_size: Mapping[str, MetricGroup] = field(default_factory=dict)


@dataclass(frozen=True)
class RunReport:
    """A run as far as it got: what it did not leave behind is empty or None.

    Attributes:
        run_id: of MLflow, or of the run's folder.
        name: of the run.
        experiment: its name; "" for runs without MLflow.
        status: of the run.
        started_at: in UTC.
        ended_at: in UTC; None while it runs.
        link: the run's page in the MLflow UI.
        tags: those of adjobs, without their prefix.
        job: the resolved job file.
        split: which image was in which split.
        data: ``uri``, ``format``, and ``counts`` of images such as ``train/normal``.
        splits: metrics of ``val`` and ``test``.
        confidence: of the intervals; None if the run has none.
        thresholds: the content of ``thresholds.json``: ``image``, ``pixel``, and the ``history`` of changes after the training.
        excluded: images left out, each with ``sample``, ``kind`` and ``message``.
        warnings: problems of images that were used all the same.
        history: values of metrics by checkpoint.
        figures: PNG files by name, without folder and suffix.
        card: the method's card, Markdown.
        test_scores: of the test images, where they were requested and stored.
    """

    run_id: str
    name: str
    experiment: str
    status: JobStatus
    started_at: datetime | None = None
    ended_at: datetime | None = None
    link: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    job: str | None = None
    split: SplitAssignment | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    splits: Mapping[str, SplitReport] = field(default_factory=dict)
    confidence: float | None = None
    thresholds: Mapping[str, Any] = field(default_factory=dict)
    excluded: tuple[Mapping[str, str], ...] = ()
    warnings: tuple[Mapping[str, str], ...] = ()
    history: History = field(default_factory=dict)
    figures: Mapping[str, bytes] = field(default_factory=dict)
    card: str | None = None
    test_scores: ImageScores | None = None


def load_run_report(reader: RunReader, *, with_scores: bool = False) -> RunReport:
    """Read a run, also one that failed on its way.

    Args:
        reader: of the run.
        with_scores: read the scores of its test images, too.

    Raises:
        TrackingError: the record cannot be read, or is not of a run of adjobs.
    """
    info, ref = reader.info, reader.ref
    if "method" not in info.tags:
        raise TrackingError(f"run {ref.run_id}: not a run of adjobs; give the run id that 'adjobs train' printed")
    artifacts = reader.artifacts()
    json_files = (SPLIT_FILE, METRICS_FILE, THRESHOLDS_FILE, PREFLIGHT_FILE)
    documents = {name: _parse_object(reader.read_text(name)) if name in artifacts else {} for name in json_files}
    metrics, preflight = documents[METRICS_FILE], documents[PREFLIGHT_FILE]
    return RunReport(
        run_id=ref.run_id,
        name=info.name,
        experiment=info.experiment,
        status=info.status,
        started_at=info.started_at,
        ended_at=info.ended_at,
        link=reader.url(),
        tags=info.tags,
        job=reader.read_text(JOB_FILE) if JOB_FILE in artifacts else None,
        split=_split_assignment(documents[SPLIT_FILE]),
        data={**info.dataset, "fingerprint": info.tags.get("data_fingerprint")} if info.dataset else {},
        splits=_split_reports(metrics) if metrics else _split_reports_of_values(info.metrics, info.tags),
        confidence=metrics.get("confidence"),
        thresholds=documents[THRESHOLDS_FILE],
        excluded=tuple(preflight.get("excluded", ())),
        warnings=tuple(preflight.get("warnings", ())),
        history=reader.metric_history(),
        figures=reader.figures(),
        card=method_card(info.tags["method"]),
        test_scores=_test_scores(reader) if with_scores else None,
    )


def _test_scores(reader: RunReader) -> ImageScores | None:
    """None of a run that did not get so far, or whose table is damaged."""
    try:
        return reader.scores("test")
    except TrackingError:
        return None


def method_card(method: str) -> str | None:
    """The card of a method, Markdown; None if this adjobs has no such method, or the method has no card."""
    return methods.card(method) if method in methods.names() else None


def _parse_object(text: str) -> dict[str, Any]:
    """A JSON object; empty if it was cut off when the run was killed."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _split_assignment(document: Mapping[str, Any]) -> SplitAssignment | None:
    try:
        return SplitAssignment.from_dict(dict(document))
    except DataError:
        return None


def _split_reports(document: Mapping[str, Any]) -> dict[str, SplitReport]:
    return {split: _split_report(metrics) for split, metrics in document.get("splits", {}).items()}


def _split_report(metrics: Mapping[str, Any]) -> SplitReport:
    overall = _estimates(metrics.get("overall", {}))
    sizes = {size: overall.pop(f"au_pro_{size}") for size in SIZES if f"au_pro_{size}" in overall}
    by_defect = metrics.get("by_defect", {})
    return SplitReport(
        overall,
        {defect: MetricGroup(of_type.get("count"), _estimates(of_type)) for defect, of_type in by_defect.items()},
        {size: MetricGroup(None, {"au_pro": estimate}) for size, estimate in sizes.items()},
    )


def _estimates(document: Mapping[str, Any]) -> dict[str, Estimate]:
    return {
        name: Estimate(stored.get("value"), stored.get("low"), stored.get("high"), stored.get("reason") or "")
        for name, stored in document.items()
        if isinstance(stored, dict) and "value" in stored
    }


def _split_reports_of_values(metrics: Mapping[str, float], tags: Mapping[str, str]) -> dict[str, SplitReport]:
    """The metrics of a run without a metrics file: the plain values, and the names of the undefined ones."""
    undefined = filter(None, tags.get("undefined_metrics", "").split(", "))
    values: dict[str, float | None] = {**dict.fromkeys(undefined), **metrics}
    reports = {}
    for split in ("val", "test"):
        of_split = {
            name.removeprefix(f"{split}/"): Estimate(value)
            for name, value in values.items()
            if name.startswith(f"{split}/") and (value is None or math.isfinite(value))
        }
        of_split.pop("ms_per_image", None)
        if of_split:
            reports[split] = SplitReport(of_split)
    return reports
