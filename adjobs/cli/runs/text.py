"""Runs as text."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from adjobs.cli.jobs.text import age
from adjobs.cli.output import table
from adjobs.cli.train import metric_table
from adjobs.errors import printable

if TYPE_CHECKING:
    from adjobs.tracking.details import RunDetails
    from adjobs.tracking.listing import ListedRun, RunList


def run_list(runs: RunList, *, is_filtered: bool) -> str:
    """One line for each run."""
    if not runs.runs:
        return "no such runs" if is_filtered else "no runs; train one with: adjobs train --method cdo --data FOLDER"
    now = datetime.now(UTC)
    rows = [_row(run, now) for run in runs.runs]
    more = "\nearlier runs are left out; see --limit" if runs.has_more else ""
    return table(rows, ["run", "name", "method", "data", "state", "metric", "", "age"]) + more


def run_details(details: RunDetails) -> str:
    """A run with what was set and what came out."""
    from adjobs.tracking.lookup import SHORT_ID

    run, info = details.run, details.run.info
    short, error, places = run.ref.run_id[:SHORT_ID], info.tags.get("error"), info.tags.get("places")
    lines = [
        f"run         {run.ref.run_id}",
        f"name        {info.name}",
        f"state       {_state(details)}",
        *([f"error       {error}"] if error else []),
        f"method      {_method(run)}",
        *([f"data        {_data(info.dataset)}"] if info.dataset else []),
        *([f"experiment  {info.experiment}"] if info.experiment else []),
        f"set         {_params(details)}",
        *([f"places      {places}"] if places else []),
        *_thresholds(details),
        f"model       {details.model or 'none'}",
        f"tracked in  {details.url or _place(run)}",
        *(f"note        {problem}" for problem in details.problems),
    ]
    blocks = ["\n".join(map(printable, lines))]
    if details.estimates:
        blocks.append(metric_table(details.estimates))
    elif info.metrics:
        blocks.append(table([[name, f"{value:.4g}"] for name, value in sorted(info.metrics.items())], ["metric", "latest"]))
    blocks.append("\n".join(_commands(details, short)))
    return "\n\n".join(filter(None, blocks))


def _row(run: ListedRun, now: datetime) -> list[str]:
    from adjobs.tracking.listing import main_metric
    from adjobs.tracking.lookup import SHORT_ID

    info, main = run.info, main_metric(run.info)
    return [
        run.ref.run_id[:SHORT_ID],
        info.name,
        _method(run),
        PurePosixPath(str(info.dataset.get("uri", "-")).rstrip("/")).name or "/",
        str(info.status).lower(),
        *(("-", "") if main is None else (f"{main[1]:.3f}", main[0])),
        "-" if info.started_at is None else age((now - info.started_at).total_seconds()),
    ]


def _method(run: ListedRun) -> str:
    from adjobs.tracking.listing import TRAINING, kind_of

    method, kind = run.info.tags.get("method"), kind_of(run.info)
    return ", ".join(filter(None, [method, None if kind == TRAINING else kind])) or "-"


def _state(details: RunDetails) -> str:
    info = details.run.info
    terms = [str(info.status).lower()]
    if info.started_at is not None:
        terms.append(f"started {info.started_at.astimezone():%Y-%m-%d %H:%M}")
        end = info.ended_at or datetime.now(UTC)
        terms.append(f"{'took' if info.ended_at else 'for'} {age((end - info.started_at).total_seconds())}")
    return ", ".join(terms)


def _data(dataset: dict[str, Any]) -> str:
    counts = [f"{name} {count}" for name, count in dataset.get("counts", {}).items() if count]
    return "; ".join([str(dataset.get("uri", "-")), *([", ".join(counts)] if counts else [])])


def _params(details: RunDetails) -> str:
    if details.params is None:
        return "not known"
    return ", ".join(f"{key}={value}" for key, value in details.params.items()) or "nothing, all is default"


def _thresholds(details: RunDetails) -> Sequence[str]:
    from adjobs.reporting.decisions import decisions

    heads = {"images": "threshold", "pixels": "pixels"}
    return [
        f"{heads[each.level]:<11} {each.value:.6g}" + (f": {each.meaning}" if each.meaning else "")
        for each in (decisions(details.thresholds) if details.thresholds else [])
    ]


def _place(run: ListedRun) -> str:
    from adjobs.tracking.folder import is_folder, run_folder

    return str(run_folder(run.ref)) if is_folder(run.ref.tracking_uri) else run.ref.tracking_uri


def _commands(details: RunDetails, short: str) -> list[str]:
    """What can be done with the run."""
    from adjobs.tracking.folder import is_folder, run_folder
    from adjobs.tracking.listing import TRAINING, kind_of

    run = details.run
    if details.model is None:
        return [f"resume it   adjobs train --resume {short}"] if kind_of(run.info) == TRAINING and _has_ended(details) else []
    report = f"adjobs report {short}"
    if is_folder(run.ref.tracking_uri) and (page := Path(run_folder(run.ref), "report.html")).exists():
        report = str(page)
    return [f"use it      adjobs predict --model {short} IMAGES", f"report      {report}"]


def _has_ended(details: RunDetails) -> bool:
    return details.run.info.ended_at is not None
