"""What people see first of a finished run in MLflow: a description, a report, and descriptions of what it registered."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from adjobs.reporting import figures
from adjobs.reporting.description import DESCRIPTION_FIGURE, REPORT_FILE, describe_model, describe_run, describe_version
from adjobs.reporting.page import render
from adjobs.reporting.report import RunReport, load_run_report
from adjobs.tracking.layout import DESCRIPTION_DPI, RunRef
from adjobs.tracking.runs import open_reader
from adjobs.tracking.versions import describe_registered
from adjobs.tracking.writer import RunWriter
from adjobs.types import JobStatus


def describe(writer: RunWriter, registered: str | None) -> None:
    """Write description and report of a run whose results are stored; the last thing that is done before it is closed.

    Args:
        writer: of the run.
        registered: registered model of which it has made a version, or None.

    Raises:
        TrackingError: MLflow does not answer.
    """
    reader = open_reader(writer.ref)
    report = load_run_report(reader)
    finished = replace(report, status=JobStatus.FINISHED, ended_at=report.ended_at or datetime.now(UTC))
    writer.log_text(render([finished]), REPORT_FILE)
    threshold = float(report.thresholds["image"]["value"])
    figure = figures.histogram(reader.scores("test"), threshold, "test")
    if figure is not None:
        writer.log_figure(figure, DESCRIPTION_FIGURE, DESCRIPTION_DPI)
    writer.set_description(describe_run(finished))
    if registered is not None:
        _describe_registered(finished, writer.ref, registered)


def describe_version_of(run: RunRef, registered: str) -> None:
    """Describe the version that was made of a finished run, and its model, where nobody has described them yet.

    Raises:
        TrackingError: MLflow does not answer.
    """
    _describe_registered(load_run_report(open_reader(run)), run, registered)


def _describe_registered(report: RunReport, run: RunRef, registered: str) -> None:
    describe_registered(run, registered, describe_model(registered), lambda uri: describe_version(report, uri))
