"""``adjobs dataset``: data sets with versions, which grow while their splits stay."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from adjobs.cli.data.options import ScaleOptions, scale_options
from adjobs.cli.dataset import text
from adjobs.cli.dataset.options import PROTOCOL, RuleOptions, SourceOptions, rule_options, source_options
from adjobs.cli.output import EXIT_PROBLEMS, VerbResult, verb
from adjobs.errors import JobError

if TYPE_CHECKING:
    from adjobs.config.settings import Settings


@click.group()
def command() -> None:
    """Create, extend and show data sets with versions.

    URI is a folder, a file:// or s3:// address. A version never changes: what is added becomes a new version, in which every
    image stays in its split. Train on it with data.uri=URI and data.protocol=official.

    \b
    adjobs dataset create s3://adjobs/data/line-3 --from /data/line-3
    adjobs dataset add s3://adjobs/data/line-3 /data/inbox --message "night shift"
    adjobs dataset show s3://adjobs/data/line-3
    adjobs dataset log s3://adjobs/data/line-3
    """  # noqa: D301 (click looks for the control character, not for a backslash)


@command.command(short_help="Create a data set, empty or from an existing one.")
@click.argument("uri")
@click.option("--from", "source", help="Data set in any layout that becomes version 1: a folder, a file:// or s3:// address.")
@source_options
@scale_options
@PROTOCOL
@rule_options
@verb
def create(
    uri: str, source: str | None, reading: SourceOptions, scale: ScaleOptions, protocol: str | None, rule: RuleOptions
) -> VerbResult:
    """Create a data set with versions at URI, where nothing else is: empty, or with the images, labels and splits of another one.

    Images that cannot be used are left out, and listed. A creation that was interrupted is completed by the same command.
    """
    settings = _settings()
    from adjobs.data.reading import NORMAL_CLASSES, ReadOptions
    from adjobs.versioning.creating import Origin, create_dataset

    if source is None and protocol is not None:
        raise JobError(f"--protocol: got {protocol} without --from, and there is nothing to split; remove it, or give --from")
    options = ReadOptions(reading.normal_classes or NORMAL_CLASSES, reading.follow_links)
    origin = None if source is None else Origin(source, reading.format_name, protocol, options, scale.to_scale())
    result = create_dataset(uri, settings=settings, author=_author(), rule=rule.to_rule(), origin=origin, progress=True)
    return result, text.creation(result)


@command.command(short_help="Add images and labels, as a new version.")
@click.argument("uri")
@click.argument("source")
@source_options
@scale_options
@click.option("--message", default="", help="What is added, or why.")
@click.option("--relabel", is_flag=True, help="Where SOURCE has other labels, use those; no image changes its split.")
@click.option("--dry-run", is_flag=True, help="Show what would be added, and write nothing.")
@verb
def add(
    uri: str, source: str, reading: SourceOptions, scale: ScaleOptions, message: str, relabel: bool, dry_run: bool
) -> VerbResult:
    """Add the images and labels of SOURCE to the data set at URI, as its next version.

    SOURCE is a folder or an s3:// address in any layout that adjobs reads. It needs no normal images: folders named after defect
    types are enough, and images beside them are unlabelled. Images that the data set has already are skipped, or get the labels
    that they lacked. What contradicts the data set or cannot be read is set aside and listed, with exit status 1; the rest is
    added. Of an empty SOURCE nothing is added, which is no error.
    """
    settings = _settings()
    from adjobs.data.reading import NORMAL_CLASSES
    from adjobs.versioning.adding import add_to_dataset

    result = add_to_dataset(
        uri,
        source,
        settings=settings,
        author=_author(),
        message=message,
        format=reading.format_name,
        relabel=relabel,
        dry_run=dry_run,
        progress=True,
        normal_classes=reading.normal_classes or NORMAL_CLASSES,
        follow_links=reading.follow_links,
        scale=scale.to_scale(),
    )
    return result, text.addition(result, dry_run=dry_run), EXIT_PROBLEMS if result.set_aside else 0


@command.command(short_help="Show a version.")
@click.argument("uri")
@click.option("--version", type=click.IntRange(min=1), help="Number of the version.  [default: the newest]")
@verb
def show(uri: str, version: int | None) -> VerbResult:
    """Show a version: its images by split, label and defect type, its fingerprint, and what was set aside when it was made."""
    _settings()
    from adjobs.versioning.dataset import VersionedDataset

    dataset = VersionedDataset.open(uri)
    record = dataset.latest() if version is None else dataset.record(version)
    result = {"uri": dataset.uri, "version": record.to_dict() if record else None}
    return result, text.version(dataset.uri, record)


@command.command()
@click.argument("uri")
@verb
def log(uri: str) -> VerbResult:
    """List all versions, the newest first."""
    _settings()
    from adjobs.versioning.dataset import VersionedDataset

    dataset = VersionedDataset.open(uri)
    records = dataset.records()
    return {"uri": dataset.uri, "versions": [record.to_dict() for record in records]}, text.history(dataset.uri, records)


def _settings() -> Settings:
    """The settings, before anything is imported that reads the environment."""
    from adjobs.config.environment import load_settings

    return load_settings()


def _author() -> str:
    import os

    from adjobs.tracking.source import user_name

    return user_name(os.environ)
