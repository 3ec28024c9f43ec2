"""Results of ``adjobs dataset`` as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from adjobs.cli.data.text import problem_lines, split_table
from adjobs.cli.output import table
from adjobs.data.problem import Problem
from adjobs.errors import printable

if TYPE_CHECKING:
    from adjobs.data.versions.record import SetAside, SplitCount, VersionRecord
    from adjobs.versioning.adding import AddResult
    from adjobs.versioning.creating import CreateResult

_EMPTY = "no version yet; add images with 'adjobs dataset add'"


def creation(result: CreateResult) -> str:
    """What was created."""
    done = "created" if result.is_new else "exists already"
    if result.version is None:
        return f"{result.uri}: {done}, with {_EMPTY}"
    record = result.version
    lines = [f"{result.uri}: {done}, with version {record.number} of {_images(record.images)}{_duplicates(record.duplicates)}"]
    return "\n".join([*lines, "", _counts(record.counts), *_set_aside(record.set_aside)])


def addition(result: AddResult, *, dry_run: bool) -> str:
    """What was added, or would be."""
    if result.version is not None:
        head = f"version {result.version.number}: {_images(result.added)} added, {result.updated} updated"
    elif dry_run and result.added + result.updated:
        head = f"{_images(result.added)} would be added, {result.updated} updated; nothing was written"
    else:
        latest = f"version {result.latest.number} is the newest" if result.latest else "the data set is empty"
        return "\n".join([f"nothing to add; {latest}{_duplicates(result.duplicates)}", *_set_aside(result.set_aside)])
    return "\n".join([head + _duplicates(result.duplicates), "", _counts(result.counts), *_set_aside(result.set_aside)])


def version(uri: str, record: VersionRecord | None) -> str:
    """A version with its images."""
    if record is None:
        return f"{uri}: {_EMPTY}"
    lines = [
        f"data set     {uri}",
        f"version      {record.number}, {record.created_at.astimezone():%Y-%m-%d %H:%M}, by {record.author}",
        *([f"message      {record.message}"] if record.message else []),
        f"from         {record.source}",
        f"images       {record.images}: {record.added} added, {record.updated} updated{_duplicates(record.duplicates)}",
        f"fingerprint  {record.fingerprint}",
    ]
    return "\n".join([*map(printable, lines), "", _counts(record.counts), *_set_aside(record.set_aside)])


def history(uri: str, records: Sequence[VersionRecord]) -> str:
    """One line for each version, the newest first."""
    if not records:
        return f"{uri}: {_EMPTY}"
    rows = [
        [
            str(record.number),
            f"{record.created_at.astimezone():%Y-%m-%d %H:%M}",
            record.author,
            f"+{record.added}",
            str(record.updated),
            str(len(record.set_aside)),
            str(record.images),
            record.message or "-",
        ]
        for record in reversed(records)
    ]
    return table(rows, ["version", "time", "author", "added", "updated", "set aside", "images", "message"])


def _duplicates(count: int) -> str:
    return f", {count} {'duplicate' if count == 1 else 'duplicates'} skipped" if count else ""


def _images(count: int) -> str:
    return f"{count} {'image' if count == 1 else 'images'}"


def _counts(counts: Iterable[SplitCount]) -> str:
    return split_table([asdict(count) for count in counts])


def _set_aside(items: Iterable[SetAside]) -> list[str]:
    lines = problem_lines("set aside", [Problem(*item) for item in items])
    return ["", *lines] if lines else []
