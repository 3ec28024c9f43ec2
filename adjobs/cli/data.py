"""``adjobs data``: look at a data set, check, divide and copy it, before a job uses it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adjobs.cli import output
from adjobs.errors import AdjobsError, JobError

if TYPE_CHECKING:
    from adjobs.data.checks.preflight import Limits, Problem
    from adjobs.data.dataset import Dataset
    from adjobs.data.splits.assignment import SplitAssignment

LINES = 20
"""Problems of one kind that are printed; ``--json`` has all."""


class Listed(click.Option):
    """An option whose help names what may be chosen, looked up only when the help is shown."""

    def __init__(self, *args: Any, names: Callable[[], Iterable[str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._names = names

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """As any option's, with the names in place of ``{}``."""
        self.help = (self.help or "").replace("{}", ", ".join(self._names()))
        return super().get_help_record(ctx)


def _protocols() -> Iterable[str]:
    from adjobs.data.splits.protocols import PROTOCOLS

    return PROTOCOLS


def _formats() -> Iterable[str]:
    from adjobs.data.formats import formats

    return formats()


def _methods() -> Iterable[str]:
    from adjobs import methods

    return methods.names()


@click.group()
def command() -> None:
    """Look at a data set, check, divide or copy it, before a job uses it.

    URI is a folder, file:// or s3:// address, or the word elpv for the installed package.

    \b
    adjobs data show /data/bottles
    adjobs data check /data/bottles --method cdo
    adjobs data split /data/bottles --protocol holdout --out split.json
    adjobs data import /data/bottles s3://adjobs/data/bottles
    """  # noqa: D301 (click looks for the control character, not for a backslash)


_FORMAT = click.option(
    "--format", "layout", cls=Listed, names=_formats, default="auto", show_default=True, help="Layout: auto, {}."
)
_PROTOCOL = click.option(
    "--protocol", cls=Listed, names=_protocols, help="How to divide: {}. [default: official where it is published, else holdout]"
)
_MAX_TRAIN_ANOMALIES = click.option(
    "--max-train-anomalies", type=click.IntRange(min=0), help="Most labelled anomalies in the training part. [default: all]"
)
_SEED = click.option("--seed", type=click.IntRange(min=0), help="Seed of the split. [default: 0]")
_STORED = click.option(
    "--split",
    "stored",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File of a split, in place of --protocol, --max-train-anomalies and --seed.",
)


def _options(*options: Callable[..., Any]) -> Callable[..., Any]:
    """Add the data set's address and format, and further options, in this order."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in (*reversed(options), _FORMAT, click.argument("uri")):
            function = option(function)
        return function

    return add


@command.command(short_help="Count what is there.")
@_options(_PROTOCOL, _MAX_TRAIN_ANOMALIES, _SEED, _STORED)
@output.verb
def show(
    uri: str, layout: str, protocol: str | None, max_train_anomalies: int | None, seed: int | None, stored: Path | None
) -> tuple[dict[str, Any], str]:
    """Print what URI holds: images by part, label and defect type, their labels and sizes, and the fingerprint."""
    from adjobs.data import summary
    from adjobs.data.dataset import fingerprint

    index = _open(uri, layout)
    divide = _division(index, protocol, max_train_anomalies, seed, stored)
    split, reason = None, ""
    try:
        split = divide(index)
    except AdjobsError as error:
        if protocol or stored:
            raise
        reason = str(error)  # what there is can be looked at although it cannot be divided
    result = {
        "uri": uri,
        "format": index.format,
        "fingerprint": fingerprint(index, progress=True),
        "images": len(index.samples),
        **summary.label_kinds(index),
        "groups": summary.groups(index, split),
        "protocol": split.protocol if split else None,
        "no_split": reason,
        "seed": split.seed if split else seed or 0,
        "parts": summary.parts(index, split),
        "sizes": summary.sizes(index, progress=True),
    }
    return result, _describe(result)


@command.command(short_help="Read everything and print all problems.")
@_options(_PROTOCOL, _MAX_TRAIN_ANOMALIES, _SEED, _STORED)
@click.option("--method", cls=Listed, names=_methods, help="Ask for the labels that this method needs, too: {}.")
@output.verb
def check(
    uri: str,
    layout: str,
    protocol: str | None,
    max_train_anomalies: int | None,
    seed: int | None,
    stored: Path | None,
    method: str | None,
) -> tuple[dict[str, Any], str, int]:
    """Read every image and label of URI and print all problems; the exit status is 1 if there are errors.

    What is left without the samples that errors name must also divide into training, validation and test. Warnings tell of
    what makes results look better than they are, such as near duplicates in two parts, or of images unlike all others.
    """
    from adjobs.data.checks import preflight

    limits = _limits(method) if method else None
    index = _open(uri, layout)
    problems = preflight.check(index, _division(index, protocol, max_train_anomalies, seed, stored), limits=limits, progress=True)
    errors = [problem for problem in problems if problem.severity == "error"]
    warnings = [problem for problem in problems if problem.severity == "warning"]
    result = {
        "uri": uri,
        "images": len(index.samples),
        "errors": len(errors),
        "warnings": len(warnings),
        "problems": [vars(problem) for problem in problems],
    }
    status = output.EXIT_PROBLEMS if errors else 0
    found = [*_lines("errors", errors), *_lines("warnings", warnings)]
    return result, "\n".join(found) or f"no problems in {len(index.samples)} images", status


@command.command(short_help="Write which image is in which part.")
@_options(_PROTOCOL, _MAX_TRAIN_ANOMALIES, _SEED)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default="split.json",
    show_default=True,
    help="The file; an older one is replaced.",
)
@output.verb
def split(
    uri: str, layout: str, protocol: str | None, max_train_anomalies: int | None, seed: int | None, out: Path
) -> tuple[dict[str, Any], str]:
    """Divide URI and write which image is in which part, to be given back as data.split of a job, or to --split."""
    from adjobs.data import summary
    from adjobs.data.splits.assignment import write_split

    index = _open(uri, layout)
    made = _division(index, protocol, max_train_anomalies, seed, None)(index)
    write_split(made, out)
    rows = summary.parts(index, made)
    result = {
        "uri": uri,
        "out": str(out),
        "protocol": made.protocol,
        "seed": made.seed,
        "max_train_anomalies": max_train_anomalies,
        "parts": rows,
    }
    return result, f"protocol {made.protocol}, seed {made.seed}, in {out}\n\n{_table(rows)}"


@command.command("import", short_help="Copy to a folder or S3, with a manifest.")
@_FORMAT
@click.option("--exclude-bad", is_flag=True, help="Leave out images that cannot be read, and those with such labels.")
@click.argument("source")
@click.argument("destination")
@output.verb
def import_(source: str, destination: str, layout: str, skip_invalid: bool) -> tuple[dict[str, Any], str, int]:
    """Copy the images and labels of SOURCE, in whatever layout, to DESTINATION, with one manifest.

    DESTINATION is a folder, file:// or s3:// address, and empty. Every file is compared with its source, and the manifest is
    written last: an import that was broken off is no data set, and goes on when the same command is run again.
    """
    from adjobs.data import importing
    from adjobs.data.checks import preflight

    index = _open(source, layout)
    importing.refuse_overlap(index, source, destination)
    problems = [problem for problem in preflight.check(index, progress=True) if problem.kind in importing.UNREADABLE]
    listed = [vars(problem) for problem in problems]
    if problems and not skip_invalid:
        text = "\n".join([*_lines("errors", problems), "nothing was copied; mend these, or leave them out with --exclude-bad"])
        return {"source": source, "destination": destination, "copied": 0, "problems": listed}, text, output.EXIT_PROBLEMS
    index = preflight.without(index, problems)
    done = importing.import_index(index, destination, progress=True)
    result = {
        "source": source,
        "destination": done.place,
        "images": len(index.samples),
        "copied": done.copied,
        "kept": done.kept,
        "bytes": done.size,
        "problems": listed,
    }
    lines = [f"{len(index.samples)} images in {done.place}: {done.copied} files copied, {done.kept} were there"]
    return result, "\n".join([*lines, *_lines("left out", problems)]), 0


def _open(uri: str, layout: str) -> Dataset:
    from adjobs.config import settings
    from adjobs.data.open import open_dataset

    return open_dataset(uri, layout, cache=settings.load().cache)


def _division(
    index: Dataset, protocol: str | None, max_train_anomalies: int | None, seed: int | None, stored: Path | None
) -> Callable[[Dataset], SplitAssignment]:
    """A function that divides what is left of the data set; wrong options are refused here, before everything is read."""
    from adjobs.data.splits.assignment import check_split, make_split, read_split
    from adjobs.data.splits.protocols import find_protocol

    if stored:
        if protocol or max_train_anomalies is not None or seed is not None:
            raise JobError(
                "--split: got other options of the split, too; the file holds all; leave out --protocol, --max-train-anomalies, --seed"
            )
        given = read_split(stored)
        check_split(index, given)
        names = {sample.id for sample in index.samples}
        return lambda rest: check_split(rest, given, names - {sample.id for sample in rest.samples})
    name = protocol or ("official" if any(sample.published_split for sample in index.samples) else "holdout")
    find_protocol(name)
    return lambda rest: make_split(rest, name, max_train_anomalies=max_train_anomalies, seed=seed or 0)


def _limits(method: str) -> Limits:
    """What a method needs with its own threshold policy."""
    from adjobs import methods
    from adjobs.jobs.prepare import needs
    from adjobs.metrics.policies import needs_anomalies

    spec = methods.spec(method)
    return replace(needs(spec), val_anomalies=needs_anomalies(*spec.threshold))


def _lines(title: str, problems: list[Problem]) -> list[str]:
    """A heading, and a line for each problem, of one kind not too many."""
    kinds: dict[str, list[Problem]] = defaultdict(list)
    for problem in problems:
        kinds[problem.kind].append(problem)
    lines = [f"{title} ({len(problems)})"] if problems else []
    for kind, found in kinds.items():
        lines.extend(f"  {problem.sample or '(data set)'}: {kind}: {problem.message}" for problem in found[:LINES])
        if len(found) > LINES:
            lines.append(f"  … and {len(found) - LINES} more of kind {kind}; --json lists all")
    return lines


def _describe(result: dict[str, Any]) -> str:
    sizes, groups = result["sizes"], result["groups"]
    words = {"masks": "with a mask", "blocks": "with blocks", "boxes": "with boxes", "unlabelled": "unlabelled"}
    labels = "".join(f", {result[kind]} {text}" for kind, text in words.items() if result[kind] or kind == "masks")
    lines = [
        f"format       {result['format']}",
        f"fingerprint  {result['fingerprint']}",
        f"images       {result['images']}{labels}",
    ]
    if "min" in sizes:
        small, large, common = (f"{size[0]} x {size[1]}" for size in (sizes["min"], sizes["max"], sizes["common"]))
        lines.append(f"sizes        {small} to {large}, most often {common} ({sizes['common_count']} images)")
    if sizes["unreadable"]:
        lines.append(f"unreadable   {sizes['unreadable']} images; see 'adjobs data check'")
    if groups["count"]:
        divided = f", {groups['divided']} of them divided between parts" if groups["divided"] else ""
        lines.append(f"groups       {groups['count']}{divided}")
    lines.append(
        f"protocol     {result['protocol']}, seed {result['seed']}"
        if result["protocol"]
        else f"no split     {result['no_split']}"
    )
    return "\n".join([*lines, "", _table(result["parts"])])


def _table(rows: list[dict[str, Any]]) -> str:
    cells = [[row["part"] or "-", row["label"], row["defect"] or "-", str(row["count"])] for row in rows]
    return output.table(cells, ["part", "label", "defect", "images"])
