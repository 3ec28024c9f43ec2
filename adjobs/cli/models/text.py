"""Registered models as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from adjobs.cli.output import table

if TYPE_CHECKING:
    from adjobs.registry.comparison import VersionComparison
    from adjobs.registry.journal import ModelState
    from adjobs.registry.models import ModelVersion, RegisteredModel
    from adjobs.registry.promotion import Promotion
    from adjobs.registry.record import HistoryRecord
    from adjobs.registry.timeline import Period


def model_list(models: Sequence[RegisteredModel]) -> str:
    """One line for each model."""
    if not models:
        return "no registered models; set track.model in a job file, and train"
    rows = [
        [
            model.name,
            _number(model.aliases.get("champion")),
            _number(model.aliases.get("challenger")),
            _number(model.latest_version),
            _time(model.created_at),
        ]
        for model in models
    ]
    return table(rows, ["model", "champion", "challenger", "latest", "registered"])


def version_list(model: RegisteredModel, versions: Sequence[ModelVersion], *, has_more: bool) -> str:
    """One line for each version."""
    if not versions:
        return f"model {model.name} has no versions; train with track.model: {model.name}"
    rows = [
        [str(item.version), ", ".join(item.aliases) or "-", _time(item.created_at), item.run_id or "-", _state(item)]
        for item in versions
    ]
    more = "\nolder versions are left out; see --limit" if has_more else ""
    return table(rows, ["version", "aliases", "registered", "run", "state"]) + more


def model_details(state: ModelState) -> str:
    """A model with its last changes."""
    model = state.model
    aliases = ", ".join(f"{alias} {version}" for alias, version in model.aliases.items())
    lines = [
        f"model       {model.name}",
        f"registered  {_time(model.created_at)}",
        f"latest      {_number(model.latest_version)}",
        f"aliases     {aliases or 'none'}",
        *([f"about       {model.description.splitlines()[0]}"] if model.description.strip() else []),
    ]
    return "\n".join([*lines, "", history(state.records[-5:], len(state.records))])


def version_details(item: ModelVersion, metrics: Mapping[str, float], changes: Sequence[HistoryRecord]) -> str:
    """A version with the metrics of its run."""
    lines = [
        f"version     {item.uri}",
        f"aliases     {', '.join(item.aliases) or 'none'}",
        f"registered  {_time(item.created_at)}",
        f"run         {item.run_id or 'none'}",
        f"state       {_state(item)}",
        f"use it      adjobs predict --model {item.uri} IMAGES",
    ]
    if metrics:
        lines += ["", table([[name, f"{value:.4g}"] for name, value in sorted(metrics.items())], ["metric", "value"])]
    return "\n".join([*lines, "", history(changes, len(changes))])


def comparison(result: VersionComparison) -> str:
    """Two versions beside each other, and what the gate says of the second."""
    from adjobs.evaluation.gate_verdict import TABLE_HEADER

    rows = []
    for metric in result.metrics:
        difference, interval, p_value = "-", "-", "-"
        if metric.difference is not None:
            difference = "-" if metric.difference.value is None else f"{metric.difference.value:+.4f}"
            low, high = metric.difference.low, metric.difference.high
            interval = metric.difference.reason or "-" if low is None or high is None else f"{low:+.4f} to {high:+.4f}"
            p_value = _p_value(metric.difference.p_value)
        rows.append([metric.name, _value(metric.a), _value(metric.b), difference, interval, p_value])
    header = ["test split", f"a: {result.a.model}/{result.a.version}", f"b: {result.b.model}/{result.b.version}"]
    return "\n".join(
        [
            f"{result.unit:<11} {result.normal} normal, {result.anomalous} anomalous, the same for both",
            "",
            table(rows, [*header, "b - a", "95 % interval", "p"]),
            "",
            f"the gate    {result.verdict.sentence}",
            "",
            table(result.verdict.table_rows(), list(TABLE_HEADER)),
            *result.verdict.power.sentences,
        ]
    )


def promotion(result: Promotion) -> str:
    """What was promoted, or would be."""
    done = "would be" if result.record is None else "is"
    before = "none" if result.before is None else f"version {result.before}"
    lines = [f"{result.model}: {result.alias} {done} version {result.version}, before {before}"]
    if result.verdict is not None:
        lines.append(f"the gate    {result.verdict.decision}: {result.verdict.sentence}")
    if result.record is None and result.needs_reason:
        lines.append("to promote it, say why with --reason")
    return "\n".join(lines)


def history(records: Sequence[HistoryRecord], total: int) -> str:
    """One line for each change, the last one first."""
    if not records:
        return "no changes of its aliases are recorded"
    rows = [
        [
            str(record.number),
            _time(record.at),
            record.by,
            "outside adjobs" if record.action == "outside" else str(record.action),
            "; ".join(map(str, record.changes)),
            "-" if record.verdict is None else record.verdict.decision,
            record.reason or (f"noticed; after {_time(record.not_before)}" if record.not_before else "-"),
        ]
        for record in reversed(records)
    ]
    more = f"\n{total - len(records)} earlier changes are left out; see --limit" if total > len(records) else ""
    return table(rows, ["", "time", "by", "action", "change", "gate", "reason"]) + more


def periods(items: Sequence[Period], alias: str) -> str:
    """One line for each version that was in force."""
    if not items:
        return f"no {alias} is recorded at that time"
    rows = []
    for period in items:
        start = _time(period.start)
        if period.not_before is not None:
            start = f"between {_time(period.not_before)} and {start}"
        rows.append([_number(period.version), start, "now" if period.end is None else _time(period.end), str(period.record)])
    return table(rows, [alias, "from", "until", "change"])


def _state(item: ModelVersion) -> str:
    return item.status.lower().replace("_", " ")


def _number(version: int | None) -> str:
    return "-" if version is None else str(version)


def _value(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4g}"


def _p_value(value: float | None) -> str:
    if value is None:
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _time(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M}"
