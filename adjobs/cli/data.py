"""``adjobs data``: look at a data set, and check it, before a job uses it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from adjobs.cli import output
from adjobs.errors import AdjobsError, DataError

if TYPE_CHECKING:
    from adjobs.data.index import Index
    from adjobs.data.splits import Split


@click.group()
def command() -> None:
    """Look at a data set, or check it, before a job uses it."""


def _source(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add what both commands take."""
    for option in (
        click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the split."),
        click.option("--protocol", help="How to divide: holdout, liac, official. [default: official if it is published]"),
        click.option("--format", "layout", default="auto", show_default=True, help="Layout of the folder."),
        click.argument("uri"),
    ):
        function = option(function)
    return function


@command.command()
@_source
@output.verb
def show(uri: str, layout: str, protocol: str | None, seed: int) -> tuple[dict[str, Any], str]:
    """Print what URI holds: images by part, label and defect type, their sizes, and the fingerprint.

    URI is a folder, file:// or s3:// address, or the word elpv for the installed package.
    """
    from adjobs.data.index import fingerprint

    index = _open(uri, layout)
    name = _protocol(index, protocol)
    split, reason = None, ""
    try:
        split = _split(index, name, seed)
    except AdjobsError as error:
        if protocol:
            raise
        reason = str(error)  # what there is can be looked at although it cannot be divided
    result = {
        "uri": uri,
        "format": index.format,
        "fingerprint": fingerprint(index, progress=True),
        "images": len(index.samples),
        "masks": sum(sample.mask is not None for sample in index.samples),
        "groups": _groups(index, split),
        "protocol": name if split else None,
        "no_split": reason,
        "seed": seed,
        "parts": _counts(index, split),
        "sizes": _sizes(index),
    }
    return result, _describe(result)


@command.command()
@_source
@output.verb
def check(uri: str, layout: str, protocol: str | None, seed: int) -> tuple[dict[str, Any], str, int]:
    """Read every image and mask of URI and print all problems; the exit status is 1 if there are any.

    What is left without the samples named must also divide into training, validation and test.
    """
    from adjobs.data import preflight

    index = _open(uri, layout)
    name = _protocol(index, protocol)
    problems = preflight.check(index, progress=True)
    try:
        _split(preflight.without(index, problems), name, seed)
    except DataError as error:
        problems.append(preflight.Problem("", "split", str(error)))
    result = {"uri": uri, "images": len(index.samples), "problems": [vars(problem) for problem in problems]}
    if not problems:
        return result, f"no problems in {len(index.samples)} images", 0
    lines = [f"{problem.sample or '(data set)'}: {problem.kind}: {problem.message}" for problem in problems]
    return result, "\n".join(lines), output.EXIT_PROBLEMS


def _open(uri: str, layout: str) -> Index:
    from adjobs import settings
    from adjobs.data.index import open_index

    return open_index(uri, layout, cache=settings.load().cache)


def _protocol(index: Index, named: str | None) -> str:
    """The protocol to use; a wrong name is refused here, before everything is read."""
    from adjobs.data.protocols import find_protocol

    if named:
        find_protocol(named)
        return named
    return "official" if any(sample.part for sample in index.samples) else "holdout"


def _split(index: Index, protocol: str, seed: int) -> Split:
    from adjobs.data.splits import make_split

    return make_split(index, protocol, seed=seed)


def _part_of(split: Split | None) -> dict[str, str]:
    return {name: part for part in ("train", "val", "test") for name in getattr(split, part, ())}


def _counts(index: Index, split: Split | None) -> list[dict[str, Any]]:
    part_of = _part_of(split)
    counts = Counter((part_of.get(s.id, ""), s.label, s.defect) for s in index.samples)
    order = ["train", "val", "test", ""]
    keys = sorted(counts, key=lambda key: (order.index(key[0]), key[1] != "normal", key))
    return [
        {"part": part, "label": label, "defect": defect, "count": counts[part, label, defect]} for part, label, defect in keys
    ]


def _groups(index: Index, split: Split | None) -> dict[str, int]:
    """How many groups there are, and how many the split divides; test results on those are too good."""
    part_of = _part_of(split)
    places: dict[str, set[str]] = {}
    for sample in index.samples:
        if sample.group is not None:
            places.setdefault(sample.group, set()).update({part_of[sample.id]} if sample.id in part_of else ())
    return {"count": len(places), "divided": sum(len(found) > 1 for found in places.values())}


def _sizes(index: Index) -> dict[str, Any]:
    """Smallest, largest (by pixels) and most frequent (width, height), and how many headers cannot be read."""
    from adjobs.data.images import ImageError, image_size
    from adjobs.data.parallel import in_threads

    def measure(sample: Any) -> tuple[int, int] | None:
        try:
            return image_size(sample.image)
        except ImageError:
            return None

    sizes = Counter(in_threads(measure, index.samples, text="measuring", progress=True))
    unreadable = sizes.pop(None, 0)
    by_area = sorted((size for size in sizes if size), key=lambda size: (size[0] * size[1], size))
    if not by_area:
        return {"unreadable": unreadable}
    common, count = sizes.most_common(1)[0]
    return {"min": by_area[0], "max": by_area[-1], "common": common, "common_count": count, "unreadable": unreadable}


def _describe(result: dict[str, Any]) -> str:
    sizes, groups = result["sizes"], result["groups"]
    lines = [
        f"format       {result['format']}",
        f"fingerprint  {result['fingerprint']}",
        f"images       {result['images']}, {result['masks']} with a mask",
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
    rows = [[row["part"] or "-", row["label"], row["defect"] or "-", str(row["count"])] for row in result["parts"]]
    return "\n".join([*lines, "", output.table(rows, ["part", "label", "defect", "images"])])
