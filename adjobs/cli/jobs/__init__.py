"""``adjobs jobs``: the jobs of the queue."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from adjobs.cli.jobs.text import ENDED, STATES, details, listing
from adjobs.cli.output import EXIT_PROBLEMS, EXIT_USAGE, VerbResult, verb

if TYPE_CHECKING:
    from adjobs.queue.client import QueueClient

MIN_CHANGE = 2.0  # seconds between two looks at a job that is followed


@click.group()
def command() -> None:
    """List, follow, stop, resume and reorder the jobs of the queue."""


def _client() -> QueueClient:
    from adjobs.config.environment import load_settings
    from adjobs.queue.client import QueueClient

    return QueueClient.from_settings(load_settings())


@command.command("list")
@click.option("--state", "states", type=click.Choice(STATES), multiple=True, help="Only jobs in this state. Repeatable.")
@click.option("--user", help="Only jobs of this user.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="The latest so many.")
@click.option("--all", "with_foreign", is_flag=True, help="Also jobs of Ray that the queue did not submit.")
@click.option("--watch", is_flag=True, help="Show the list again every two seconds, until Ctrl-C.")
@verb
def list_jobs(states: tuple[str, ...], user: str | None, limit: int, with_foreign: bool, watch: bool) -> VerbResult:
    """List jobs with their state and place, the latest first."""
    client = _client()

    def select() -> list[dict[str, Any]]:
        jobs = client.select(states, user, limit)
        return [*jobs, *_foreign_jobs(client, states, user)[:limit]] if with_foreign else jobs

    jobs = select()
    while watch and sys.stderr.isatty():
        click.clear()
        click.echo(listing(jobs, time.time()), err=True)
        time.sleep(MIN_CHANGE)
        jobs = select()
    return {"jobs": jobs}, listing(jobs, time.time())


def _foreign_jobs(client: QueueClient, states: tuple[str, ...], user: str | None) -> list[dict[str, Any]]:
    """Those in the given states; a Ray head that does not answer only leaves them out."""
    foreign, note = client.select_foreign()
    if note is not None:
        click.echo(f"warning: jobs that the queue did not submit are missing: {note}", err=True)
    return [job for job in foreign if (not states or job["state"] in states) and user in (None, job["user"])]


@command.command()
@click.argument("job")
@verb
def show(job: str) -> VerbResult:
    """Show a job: what it runs, where it stands, and what happened to it."""
    queued = _client().get(job)
    return queued, details(queued, time.time())


@command.command()
@click.argument("job")
@verb
def why(job: str) -> VerbResult:
    """Say in one sentence why a job is in its state."""
    queued = _client().get(job)
    sentence = queued["explanation"]
    return {"id": queued["id"], "state": queued["state"], "why": sentence}, f"{queued['state']}: {sentence}"


@command.command()
@click.argument("job")
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended.")
@verb
def logs(job: str, follow: bool) -> VerbResult:
    """Print the end of a job's log."""
    from adjobs.cli.jobs.waiting import Patience

    client, patience = _client(), Patience()
    request = functools.partial(client.logs, job)
    log = client.logs(job) if not follow else patience.ask(request)
    assert log is not None  # it raises if the queue has never answered
    if not follow:
        return log, log["logs"].rstrip("\n")
    shown, attempt = 0, log["attempt"]
    while True:
        if log["attempt"] != attempt:
            shown, attempt = 0, log["attempt"]
        new = min(log["characters"] - shown, len(log["logs"]))
        click.echo(log["logs"][len(log["logs"]) - new :] if new > 0 else "", nl=False, err=True)
        shown = max(shown, log["characters"])
        if log["state"] in ENDED:
            return {"state": log["state"], "attempt": attempt}, f"job {job} is {log['state']}"
        time.sleep(MIN_CHANGE)
        log = patience.ask(request) or log


@command.command()
@click.argument("jobs", nargs=-1, required=True)
@verb
def stop(jobs: tuple[str, ...]) -> VerbResult:
    """End jobs; those that run close their run first, and can be resumed."""
    return _each(jobs, lambda client, job: client.stop(job), "stopping")


@command.command()
@click.argument("jobs", nargs=-1, required=True)
@verb
def resume(jobs: tuple[str, ...]) -> VerbResult:
    """Queue jobs again that failed or were stopped; they go on from their last checkpoint."""
    return _each(jobs, lambda client, job: client.resume(job), "queued")


@command.command()
@click.argument("job")
@click.argument("priority", type=click.IntRange(-1000, 1000))
@verb
def priority(job: str, priority: int) -> VerbResult:
    """Move a queued job: higher priorities start first."""
    changed = _client().set_priority(job, priority)
    return changed, f"job {changed['id']} has priority {priority}"


@command.command()
@click.argument("jobs", nargs=-1, required=True)
@verb
def wait(jobs: tuple[str, ...]) -> tuple[dict[str, Any], str, int]:
    """Wait until jobs have ended. Exit status 0 if all are done, 1 if one failed or was stopped."""
    from adjobs.cli.jobs.waiting import wait_for

    ended = wait_for(_client(), jobs)
    failed = any(job["state"] != "done" for job in ended)
    return {"jobs": ended}, listing(ended, time.time()), EXIT_PROBLEMS if failed else 0


@command.command()
@click.option("--days", type=click.FloatRange(0, 36500), default=30.0, show_default=True, help="Ended at least so long ago.")
@verb
def prune(days: float) -> VerbResult:
    """Forget jobs that ended long ago. Their runs stay in MLflow."""
    deleted = _client().prune(days)
    return {"deleted": deleted}, f"forgot {deleted} jobs"


def _each(jobs: tuple[str, ...], change: Callable[[QueueClient, str], dict[str, Any]], done: str) -> VerbResult:
    """Change each job; one that cannot be changed is an error of its own and keeps no other from it."""
    from adjobs.errors import QueueError

    client = _client()
    changed: list[dict[str, Any]] = []
    errors: list[QueueError] = []
    for job in dict.fromkeys(jobs):
        try:
            changed.append(change(client, job))
        except QueueError as error:
            errors.append(error)
    if not changed:
        raise errors[0]
    for problem in errors:
        click.echo(f"error: {problem}", err=True)
    lines = [f"job {job['id']}: {job['state'] if job['state'] == 'stopped' else done}" for job in changed]
    result = {"jobs": changed, "errors": [str(problem) for problem in errors]}
    return result, "\n".join(lines), EXIT_USAGE if errors else 0
