"""``adjobs data``: inspect, check, split and copy a data set before a job uses it."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from adjobs.cli.data import contact_sheet
from adjobs.cli.data.options import (
    FOLLOW_LINKS,
    FORMAT,
    MAX_TRAIN_ANOMALIES,
    METHOD,
    NORMAL_CLASS,
    PROTOCOL,
    SEED,
    SPLIT_FILE,
    DatasetAddress,
    ScaleOptions,
    SplitOptions,
    dataset_options,
    open_address,
    scale_options,
    splitter,
)
from adjobs.cli.data.text import level_lines, problem_lines, split_table, summary_text
from adjobs.cli.output import EXIT_PROBLEMS, VerbResult, verb
from adjobs.errors import AdjobsError, DataError

if TYPE_CHECKING:
    from adjobs.data.dataset import Dataset
    from adjobs.data.places import Places
    from adjobs.data.problem import DataRequirements, Problem
    from adjobs.data.splits.assignment import SplitAssignment


@click.group()
def command() -> None:
    """Inspect, view, check, split or copy a data set.

    URI is a folder, a file:// or s3:// address, or elpv for the installed package elpv-dataset.

    \b
    adjobs data show /data/bottles
    adjobs data look /data/bottles --out bottles.html
    adjobs data check /data/bottles --method cdo
    adjobs data split /data/bottles --protocol holdout --out split.json
    adjobs data import /data/bottles s3://adjobs/data/bottles
    """  # noqa: D301 (click looks for the control character, not for a backslash)


command.add_command(contact_sheet.command)


@command.command(short_help="Summarise a data set.")
@dataset_options(PROTOCOL, MAX_TRAIN_ANOMALIES, SEED, SPLIT_FILE)
@verb
def show(
    address: DatasetAddress,
    protocol: str | None,
    max_train_anomalies: int | None,
    seed: int | None,
    split_file: Path | None,
) -> VerbResult:
    """Print the number of images by split, label and defect type, kinds of labels, image sizes and the fingerprint of URI.

    Class names that were taken to mean normal are listed with their numbers, and so is what the reader of the layout found:
    annotations that cannot be used, links that were not followed, images of formats that are not read. Files that cannot be read
    at all are listed, too, and there is no fingerprint then.

    Up to 90 normal images, of the training split where there is one, are compared with each other: do simulated defects stand out
    more beside the same place of other images, as with parts that lie alike, or beside any place of them, as with parts in any
    pose? Methods cdo and slsg choose by that what scores. Of images of more than 8 bits all are read, since their range decides
    how dark and bright they are; all other pixels are read by 'adjobs data check' only.
    """
    from adjobs.data import summary
    from adjobs.data.dataset import fingerprint_or_problems

    dataset = open_address(address)
    make_split = splitter(dataset, SplitOptions(protocol, max_train_anomalies, seed, split_file))
    split, split_error = None, ""
    try:
        split = make_split(dataset)
    except AdjobsError as error:
        if protocol or split_file:
            raise
        split_error = str(error)  # everything else can be shown without a split
    fingerprint, unreadable = fingerprint_or_problems(dataset, progress=True)
    places = _find_places(dataset, split, fingerprint)
    result = {
        "uri": address.uri,
        "format": dataset.format,
        "fingerprint": fingerprint,
        "images": len(dataset.samples),
        **summary.count_label_kinds(dataset),
        "normal_classes": dict(dataset.normal_classes),
        "problems": summary.count_problems([*dataset.problems, *unreadable]),
        "messages": [problem.message for problem in dataset.problems if not problem.sample],
        "unreadable": [vars(problem) for problem in unreadable],
        "groups": summary.count_groups(dataset, split),
        "protocol": split.protocol if split else None,
        "split_error": split_error,
        "seed": split.seed if split else seed or 0,
        "splits": summary.count_by_split(dataset, split),
        "sizes": summary.summarize_sizes(dataset, progress=True),
        "places": None if places is None else {**places.to_dict(), "description": places.describe()},
    }
    return result, summary_text(result)


@command.command(short_help="Read every image and label, and print all problems.")
@dataset_options(PROTOCOL, MAX_TRAIN_ANOMALIES, SEED, SPLIT_FILE)
@METHOD
@scale_options
@verb
def check(
    address: DatasetAddress,
    protocol: str | None,
    max_train_anomalies: int | None,
    seed: int | None,
    split_file: Path | None,
    method: str | None,
    scale: ScaleOptions,
) -> VerbResult:
    """Read every image and label of URI and print all problems; the exit status is 1 if there are errors.

    Errors are what a job would refuse: files that do not fit the layout or cannot be read, masks that do not fit their images,
    and too few images of a kind in a split, with samples in error left out. Warnings do not stop a job; they are about what makes
    results optimistic, such as near duplicates in two splits, about images unlike all others, and about masks that are missing.
    """
    from adjobs.data.checks.preflight import inspect_dataset

    requirements, pixel_scale = _requirements(method) if method else None, scale.to_scale()
    dataset = open_address(address, list_faults=True)
    make_split = splitter(dataset, SplitOptions(protocol, max_train_anomalies, seed, split_file))
    report = inspect_dataset(dataset, make_split, requirements=requirements, scale=pixel_scale, progress=True)
    problems = [*report.problems, *_changed_caches(dataset)]
    errors = [problem for problem in problems if problem.severity == "error"]
    warnings = [problem for problem in problems if problem.severity == "warning"]
    result = {
        "uri": address.uri,
        "images": len(dataset.samples),
        "errors": len(errors),
        "warnings": len(warnings),
        "problems": [vars(problem) for problem in problems],
        "pixels": report.levels.to_dict() if report.levels else None,
    }
    lines = [*problem_lines("errors", errors), *problem_lines("warnings", warnings)]
    lines = lines or [f"no problems in {len(dataset.samples)} images"]
    return result, "\n".join([*lines, *level_lines(report.levels)]), EXIT_PROBLEMS if errors else 0


@command.command(short_help="Write a split to a file.")
@dataset_options(PROTOCOL, MAX_TRAIN_ANOMALIES, SEED)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default="split.json",
    show_default=True,
    help="Output file; an existing split is replaced.",
)
@verb
def split(
    address: DatasetAddress,
    protocol: str | None,
    max_train_anomalies: int | None,
    seed: int | None,
    out: Path,
) -> VerbResult:
    """Split URI and write the split to a file, for data.split of a job or for --split."""
    from adjobs.data import summary
    from adjobs.data.splits.assignment import is_split, write_split
    from adjobs.storage.outputs import output_file

    target = output_file(out, "a split", is_split)
    dataset = open_address(address)
    assignment = splitter(dataset, SplitOptions(protocol, max_train_anomalies, seed))(dataset)
    write_split(assignment, target)
    counts = summary.count_by_split(dataset, assignment)
    result = {
        "uri": address.uri,
        "out": str(out),
        "protocol": assignment.protocol,
        "seed": assignment.seed,
        "max_train_anomalies": max_train_anomalies,
        "splits": counts,
    }
    return result, f"protocol {assignment.protocol}, seed {assignment.seed}, in {out}\n\n{split_table(counts)}"


@command.command("import", short_help="Copy a data set to a folder or S3, with a manifest.")
@FORMAT
@FOLLOW_LINKS
@NORMAL_CLASS
@click.option("--skip-invalid", is_flag=True, help="Skip images that are unreadable or have unreadable labels.")
@click.argument("source")
@click.argument("destination")
@verb
def import_(
    source: str,
    destination: str,
    format_name: str,
    follow_links: bool,
    normal_classes: tuple[str, ...],
    skip_invalid: bool,
) -> VerbResult:
    """Copy the images and labels of SOURCE, in any supported layout, to DESTINATION, with one manifest.

    DESTINATION is an empty folder, file:// or s3:// address. Every copied file is compared with its source, and the manifest is
    written last: an interrupted import is not a data set, and continues when the same command is run again.
    """
    from adjobs.data.checks.preflight import check_dataset, without_invalid
    from adjobs.data.importing import UNREADABLE, import_dataset, refuse_overlap

    dataset = open_address(DatasetAddress(source, format_name, follow_links, normal_classes))
    refuse_overlap(dataset, source, destination)
    problems = [problem for problem in check_dataset(dataset, progress=True) if problem.kind in UNREADABLE]
    problem_dicts = [vars(problem) for problem in problems]
    if problems and not (skip_invalid and all(problem.sample for problem in problems)):
        lines = [*problem_lines("errors", problems), "nothing was copied; fix these, or skip them with --skip-invalid"]
        result = {"source": source, "destination": destination, "copied": 0, "problems": problem_dicts}
        return result, "\n".join(lines), EXIT_PROBLEMS
    dataset = without_invalid(dataset, problems)
    copy = import_dataset(dataset, destination, progress=True)
    result = {
        "source": source,
        "destination": copy.destination,
        "images": len(dataset.samples),
        "copied": copy.copied,
        "already_present": copy.already_present,
        "bytes": copy.size,
        "problems": problem_dicts,
    }
    text = (
        f"{len(dataset.samples)} images in {copy.destination}: {copy.copied} files copied, {copy.already_present} already present"
    )
    return result, "\n".join([text, *problem_lines("skipped", problems)])


def _find_places(dataset: Dataset, split: SplitAssignment | None, fingerprint: str | None) -> Places | None:
    """Compare the places of normal images, those of the training split where there is one.

    None with too few of them, with an image that cannot be read, and where PyTorch is not installed.
    """
    if fingerprint is None or find_spec("torch") is None:
        return None
    from adjobs.config.environment import load_settings
    from adjobs.data.image_file import ImageError
    from adjobs.data.images import find_reading
    from adjobs.jobs.places import find_places

    try:
        reading = find_reading([sample.image for sample in dataset.samples])
        return find_places(dataset, split, reading, fingerprint, load_settings().cache)
    except ImageError:
        return None


def _changed_caches(dataset: Dataset) -> list[Problem]:
    """Compare the decoded images in the cache with their checksums; those that have changed are removed."""
    from adjobs.config.environment import load_settings
    from adjobs.data.cache.images import remove_changed_caches
    from adjobs.data.dataset import fingerprint
    from adjobs.data.problem import Problem

    cache = load_settings().cache
    if not (cache / "decoded").is_dir():
        return []
    try:
        removed = remove_changed_caches(fingerprint(dataset), cache)
    except DataError:  # a file that cannot be read, which is reported already; nothing is cached for such data
        return []
    message = "its files have changed since they were written; they were removed, the next job makes them again"
    return [Problem("", "cache", f"{folder}: {message}", "warning") for folder in removed]


def _requirements(method: str) -> DataRequirements:
    """What a method requires with its default threshold policy."""
    from adjobs import methods
    from adjobs.jobs.data import requirements_of
    from adjobs.metrics.policies import ThresholdPolicy

    spec = methods.spec(method)
    return replace(requirements_of(spec), needs_val_anomalies=ThresholdPolicy(*spec.threshold).needs_anomalies)
