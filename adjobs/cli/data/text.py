"""Results of ``adjobs data`` as text."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from adjobs.cli.output import table
from adjobs.errors import printable

if TYPE_CHECKING:
    from adjobs.data.checks.levels import LevelSummary
    from adjobs.data.problem import Problem

MAX_LINES = 100
"""Maximum number of problems of one kind that are printed; ``--json`` lists all."""


def problem_lines(title: str, problems: list[Problem]) -> list[str]:
    """A heading and one line for each problem, up to ``MAX_LINES`` of a kind."""
    by_kind: dict[str, list[Problem]] = defaultdict(list)
    for problem in problems:
        by_kind[problem.kind].append(problem)
    lines = [f"{title} ({len(problems)})"] if problems else []
    for kind, members in by_kind.items():
        lines.extend(
            printable(f"  {problem.sample or '(data set)'}: {kind}: {problem.message}") for problem in members[:MAX_LINES]
        )
        if len(members) > MAX_LINES:
            lines.append(f"  … and {len(members) - MAX_LINES} more of kind {kind}; --json lists all")
    return lines


def level_lines(summary: LevelSummary | None) -> list[str]:
    """How images use the levels of their pixels, after an empty line; nothing without usable images."""
    if summary is None:
        return []
    depths = "; ".join(f"{depth}: {count} images" for depth, count in summary.images.items())
    scale = "" if summary.white is None else f"; black is {summary.black:g}, white {summary.white:g}"
    if summary.assumed_bits is not None:
        scale += f" ({summary.assumed_bits} bits hold all values; if the camera has more, set data.bit_depth)"
    return [
        "",
        f"pixels     {depths}{scale}",
        f"levels     {summary.median_levels:.0f} of 256 in the median image, {summary.min_levels} in the one with fewest",
        f"saturated  {summary.median_white:.1%} white and {summary.median_black:.1%} black in the median image, at most "
        f"{summary.max_white:.1%} and {summary.max_black:.1%}",
    ]


def summary_text(summary: dict[str, Any]) -> str:
    """The result of ``show`` for a person."""
    sizes, groups = summary["sizes"], summary["groups"]
    phrases = {"masks": "with a mask", "blocks": "with blocks", "boxes": "with boxes", "unlabelled": "unlabelled"}
    labels = "".join(f", {summary[kind]} {phrase}" for kind, phrase in phrases.items() if summary[kind] or kind == "masks")
    lines = [
        f"format       {summary['format']}",
        f"fingerprint  {summary['fingerprint'] or 'none, since files cannot be read'}",
        f"images       {summary['images']}{labels}",
    ]
    if "min" in sizes:
        smallest, largest, common = (f"{size[0]} x {size[1]}" for size in (sizes["min"], sizes["max"], sizes["common"]))
        lines.append(f"sizes        {smallest} to {largest}, most common {common} ({sizes['common_count']} images)")
    if summary["normal_classes"]:
        names = ", ".join(f"{name} ({count})" for name, count in summary["normal_classes"].items())
        lines.append(f"normal       annotations of class {names}")
    if sizes["unreadable"]:
        lines.append(f"unreadable   {sizes['unreadable']} images; see 'adjobs data check'")
    if groups["count"]:
        across_splits = f", {groups['across_splits']} of them in several splits" if groups["across_splits"] else ""
        lines.append(f"groups       {groups['count']}{across_splits}")
    if summary["places"]:
        lines.append(f"places       {summary['places']['description']}")
    if summary["protocol"]:
        lines.append(f"protocol     {summary['protocol']}, seed {summary['seed']}")
    else:
        lines.append(f"no split     {summary['split_error']}")
    return "\n".join([*lines, *_reader_problems(summary), "", split_table(summary["splits"])])


def _reader_problems(summary: dict[str, Any]) -> list[str]:
    """Counts of the problems by kind, and those of the data set as a whole in full."""
    if not summary["problems"]:
        return []
    kinds = ", ".join(f"{problem['kind']} ({problem['severity']}, {problem['count']})" for problem in summary["problems"])
    unreadable = summary["unreadable"]
    lines = [*summary["messages"], *(f"{problem['sample']}: {problem['message']}" for problem in unreadable[:MAX_LINES])]
    if len(unreadable) > MAX_LINES:
        lines.append(f"… and {len(unreadable) - MAX_LINES} more; --json lists all")
    return [f"problems     {kinds}; see 'adjobs data check'", *(printable(f"             {line}") for line in lines)]


def split_table(counts: list[dict[str, Any]]) -> str:
    """A table of the images by split, label and defect type."""
    rows = [[count["split"] or "-", count["label"], count["defect"] or "-", str(count["count"])] for count in counts]
    return table(rows, ["split", "label", "defect", "images"])
