"""``adjobs submit``."""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import Any

import click

from adjobs.cli.output import EXIT_PROBLEMS, table, verb
from adjobs.errors import JobError
from adjobs.version import __version__


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
@click.option("--wait", is_flag=True, help="Wait until all are done; exit status 1 if one failed.")
@verb
def command(job_files: tuple[Path, ...], wait: bool, **options: Any) -> tuple[dict[str, Any], str, int]:
    """Queue jobs on the cluster.

    Each job file becomes one job, in the given order; either all are queued or none.

    \b
    adjobs submit job.yaml
    adjobs submit jobs/*.yaml --priority 5
    adjobs submit job.yaml --space tune_spaces/cdo.yaml --trials 30
    """  # noqa: D301 (click looks for the control character, not for a backslash)
    from adjobs.cli.jobs.waiting import wait_for
    from adjobs.config.environment import load_settings
    from adjobs.queue.client import QueueClient

    client = QueueClient.from_settings(load_settings())
    if options["space"] is None and (options["trials"] or options["metrics"] or options["time_budget"]):
        raise JobError("--trials, --metric and --time-budget are of a search; give --space FILE as well, or remove them")
    requests = [_request(path, **options) for path in job_files]
    _check_queue(client.preflight(options["priority"]))
    submissions = client.submit(requests)
    rows = [
        [job["id"], str(path), "queued" if job["created"] else "was there already", str(job["position"] or "-")]
        for path, job in zip(job_files, submissions, strict=True)
    ]
    text = table(rows, ["job", "file", "", "position"])
    if not wait:
        return {"jobs": submissions}, f"{text}\n\nfollow it with: adjobs jobs logs -f {submissions[0]['id']}", 0
    click.echo(text, err=True)
    ended = wait_for(client, [job["id"] for job in submissions])
    failed = any(job["state"] != "done" for job in ended)
    states = {job["id"]: job["state"] for job in ended}
    result = {"jobs": [{**job, "state": states[job["id"]]} for job in submissions]}
    summary = table([[job["id"], job["state"], job["why"]] for job in ended], ["job", "state", "why"])
    return result, summary, EXIT_PROBLEMS if failed else 0


def _name_of(path: Path) -> str:
    """A name that the queue takes, whatever the job file is called.

    >>> _name_of(Path("_Größe (3).yaml"))
    'Gr--e -3-'
    """
    return re.sub(r"[^A-Za-z0-9._ -]", "-", path.stem).lstrip("-._ ")[:100] or "job"


def _check_queue(queue: dict[str, Any]) -> None:
    """Say before anything is sent what the jobs will wait for, and whether the queue is of another version."""
    theirs, ours = queue["version"], __version__
    if theirs.split(".")[:2] != ours.split(".")[:2]:
        click.echo(
            f"warning: adjobs is {ours} here and {theirs} at the queue, where the jobs run; use the same version", err=True
        )
    if queue["position"] > 1:
        click.echo(f"jobs ahead in the queue: {queue['position'] - 1}", err=True)


def _request(path: Path, space: Path | None, overrides: tuple[str, ...], name: str | None, **options: Any) -> dict[str, Any]:
    """A job of the queue's interface, checked as far as it can be here."""
    from adjobs.cli.tune import parse_duration
    from adjobs.config import resolve
    from adjobs.jobs.prepare import with_absolute_paths

    job = with_absolute_paths(resolve.resolve(resolve.override(resolve.read_job(path), overrides), source=str(path)))
    request: dict[str, Any] = {
        "verb": "train" if space is None else "tune",
        "name": name or _name_of(path),
        "document": job.model_dump(mode="json"),
        "priority": options["priority"],
        "after": list(options["after"]),
        "key": secrets.token_hex(16) if options["force"] else None,  # sent again, it is the same job
    }
    if space is not None:
        from adjobs.tuning.space import read_space

        parsed = read_space(space)
        parsed.check(job)
        search = {"trials": options["trials"], "metrics": list(options["metrics"])}
        if options["time_budget"] is not None:
            search["time_budget_s"] = parse_duration(options["time_budget"])
        request |= {"space": parsed.to_dict(), "options": {key: value for key, value in search.items() if value}}
    return request
