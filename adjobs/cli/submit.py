"""``adjobs submit``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from adjobs.cli.output import EXIT_PROBLEMS, table, verb
from adjobs.errors import JobError
from adjobs.queue.packing import MAX_ARCHIVE, WorkingDir, scan, size_text, write_archive

if TYPE_CHECKING:
    from adjobs.config.job import JobConfig
    from adjobs.queue.client import QueueClient


@click.command()
@click.argument("job_files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--space", type=click.Path(path_type=Path), help="Search over this space, in place of training each job as it is.")
@click.option("--trials", type=click.IntRange(min=1), help="Trials of the search, in all.")
@click.option("--metric", "metrics", multiple=True, help="Objective of the search, such as image_auroc:max. Repeatable.")
@click.option("--time-budget", metavar="DURATION", help="Time for the search, such as 90m or 8h.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change one key of every job file. Repeatable.")
@click.option("--name", help="Name of the job, for people.  [default: that of the job file]")
@click.option("--priority", type=click.IntRange(-1000, 1000), default=0, show_default=True, help="Higher first.")
@click.option("--after", multiple=True, metavar="JOB", help="Start only when this job is done. Repeatable.")
@click.option("--force", is_flag=True, help="A job of its own, even if an equal one is queued or running.")
@click.option(
    "--working-dir",
    type=click.Path(path_type=Path),
    help="Upload this directory; the jobs run in it, and relative paths in job files start in it.",
)
@click.option(
    "--max-upload",
    type=click.IntRange(1, MAX_ARCHIVE // 10**6),
    default=100,
    show_default=True,
    metavar="MB",
    help=f"Largest working directory, at most {MAX_ARCHIVE // 10**6}.",
)
@click.option("--dry-run", is_flag=True, help="Check everything, list what would be uploaded, and submit nothing.")
@click.option("--wait", is_flag=True, help="Wait until all are done; exit status 1 if one failed.")
@verb
def command(job_files: tuple[Path, ...], wait: bool, dry_run: bool, **options: Any) -> tuple[dict[str, Any], str, int]:
    """Queue jobs on the cluster.

    Each job file becomes one job, in the given order; either all are queued or none. A file with a section compare is a
    comparison, one with model and dataset a retraining, of which each model has one at a time.

    \b
    adjobs submit job.yaml
    adjobs submit jobs/*.yaml --priority 5
    adjobs submit job.yaml --space tune_spaces/cdo.yaml --trials 30
    adjobs submit job.yaml --working-dir .
    """  # noqa: D301 (click looks for the control character, not for a backslash)
    from adjobs.config.environment import load_settings
    from adjobs.queue.client import QueueClient

    client = QueueClient.from_settings(load_settings())
    if options["space"] is None and (options["trials"] or options["metrics"] or options["time_budget"]):
        raise JobError("--trials, --metric and --time-budget are of a search; give --space FILE as well, or remove them")
    with TemporaryDirectory(prefix="adjobs-") as folder:
        archive = Path(folder, "working_dir.zip")
        requests, directory = _prepare(job_files, archive, **options)
        preflight = _check(client, job_files, requests, directory)
        if dry_run:
            return _dry_run(preflight, directory)
        if directory is not None:
            client.upload(requests[0]["working_dir"], archive)
        submissions = client.submit(requests)
    return _submitted(client, job_files, submissions, preflight, wait=wait)


def _prepare(
    job_files: Sequence[Path], archive: Path, working_dir: Path | None, max_upload: int, **options: Any
) -> tuple[list[dict[str, Any]], WorkingDir | None]:
    """The jobs for the queue, checked as far as they can be here; and what of the working directory is in the archive."""
    from adjobs.data.open import INSTALLED
    from adjobs.queue.plugins import importable, plugin_metadata

    if working_dir is None:
        return [_request(path, None, [], **options) for path in job_files], None
    named: list[Path] = []
    metadata = plugin_metadata(working_dir)
    with importable(working_dir, metadata):
        requests = [_request(path, working_dir, named, **options) for path in job_files]
    uris = {request["document"]["data"]["uri"] for request in requests}
    data = {Path(uri) for uri in uris if "://" not in uri and uri != INSTALLED}
    directory = scan(working_dir, named, data, max_upload * 10**6, metadata)
    digest = write_archive(directory, archive)
    return [{**request, "working_dir": digest} for request in requests], directory


def _check(
    client: QueueClient, files: Sequence[Path], requests: Sequence[dict[str, Any]], directory: WorkingDir | None
) -> dict[str, Any]:
    """What the queue says of the jobs before anything is sent; said on standard error as well.

    Raises:
        JobError: the queue would refuse one.
    """
    from adjobs.cli.jobs import preflight
    from adjobs.queue.requests import refuse_problems

    answer = client.preflight(requests)
    refuse_problems(files, requests, answer["jobs"])
    warnings = list(preflight.version_warnings(answer))
    lines = [f"warning: {warning}" for warning in warnings]
    lines += [] if directory is None else preflight.upload_lines(directory)
    for line in (*lines, *preflight.queue_lines(files, answer)):
        click.echo(line, err=True)
    upload = (
        None if directory is None else {"files": len(directory.files), "bytes": directory.size, "left_out": directory.secrets}
    )
    return {**answer, "warnings": warnings, "upload": upload}


def _dry_run(preflight: dict[str, Any], directory: WorkingDir | None) -> tuple[dict[str, Any], str, int]:
    files = () if directory is None else directory.files
    text = table([[file.name, size_text(file.size)] for file in files], ["would be uploaded", "size"]) if files else ""
    listing = [{"name": file.name, "bytes": file.size} for file in files]
    end = "nothing was submitted (--dry-run)"
    return {"jobs": [], "preflight": preflight, "files": listing}, f"{text}\n\n{end}" if text else end, 0


def _submitted(
    client: QueueClient,
    job_files: Sequence[Path],
    submissions: list[dict[str, Any]],
    preflight: dict[str, Any],
    *,
    wait: bool,
) -> tuple[dict[str, Any], str, int]:
    """The result, at once or when all jobs have ended."""
    from adjobs.cli.jobs.waiting import wait_for

    rows = [
        [job["id"], str(path), "queued" if job["created"] else "was there already", str(job["position"] or "-")]
        for path, job in zip(job_files, submissions, strict=True)
    ]
    text = table(rows, ["job", "file", "", "position"])
    result = {"jobs": submissions, "preflight": preflight}
    if not wait:
        return result, f"{text}\n\nfollow it with: adjobs jobs logs -f {submissions[0]['id']}", 0
    click.echo(text, err=True)
    ended = wait_for(client, [job["id"] for job in submissions])
    failed = any(job["state"] != "done" for job in ended)
    states = {job["id"]: job["state"] for job in ended}
    result["jobs"] = [{**job, "state": states[job["id"]]} for job in submissions]
    summary = table([[job["id"], job["state"], job["why"]] for job in ended], ["job", "state", "why"])
    return result, summary, EXIT_PROBLEMS if failed else 0


def _request(
    path: Path,
    working_dir: Path | None,
    named: list[Path],
    space: Path | None,
    overrides: tuple[str, ...],
    name: str | None,
    **options: Any,
) -> dict[str, Any]:
    """A job for the queue, checked as far as it can be here; ``named`` gets the files of its directory that it needs."""
    from adjobs.config import resolve
    from adjobs.jobs.prepare import with_absolute_paths
    from adjobs.queue import requests
    from adjobs.queue.working_dir import relative_to

    treatment = requests.RequestOptions(
        name or requests.name_of(path), options["priority"], options["after"], force=options["force"]
    )
    document = resolve.read_job(path)
    is_plain = space is None and working_dir is None
    if requests.is_retraining(document) and not (is_plain and not overrides and not options["force"]):
        raise JobError(f"{path}: a retraining takes no --space, --working-dir, --set and --force; remove the option")
    document = document if requests.is_retraining(document) else resolve.override(document, overrides)
    if "compare" in document and not is_plain:
        raise JobError(f"{path}: a comparison takes no --space and no --working-dir; remove the option")
    if is_plain:
        return requests.request_of(document, path, (), treatment)
    job = resolve.resolve(document, source=str(path))
    if working_dir is None:
        job = with_absolute_paths(job)
    else:
        job, files = relative_to(working_dir, job)
        named += files
    request = requests.make_request("train" if space is None else "tune", job.model_dump(mode="json"), treatment)
    return request if space is None else request | _search(space, job, **options)


def _search(
    space: Path, job: JobConfig, trials: int | None, metrics: tuple[str, ...], time_budget: str | None, **_: Any
) -> dict[str, Any]:
    """What a request of a search has besides that of a training."""
    from adjobs.cli.tune import parse_duration
    from adjobs.tuning.space import read_space

    parsed = read_space(space)
    parsed.check(job)
    search: dict[str, Any] = {"trials": trials, "metrics": list(metrics)}
    if time_budget is not None:
        search["time_budget_s"] = parse_duration(time_budget)
    return {"space": parsed.to_dict(), "options": {key: value for key, value in search.items() if value}}
