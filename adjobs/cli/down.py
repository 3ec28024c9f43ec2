"""``adjobs down``: stop the embedded stack."""

from __future__ import annotations

import os
import sys

import click

from adjobs.cli.output import VerbResult, verb
from adjobs.errors import StackError, shorten


@click.command()
@click.option("--force", is_flag=True, help="Stop without asking, even if jobs are running.")
@verb
def command(force: bool) -> VerbResult:
    """Stop the embedded stack and all jobs on it. Data and credentials are kept.

    While jobs run on it or record in it, it asks first; where nobody can answer, it refuses without --force.
    """
    from adjobs.config.settings import home_folder
    from adjobs.stack import lifecycle
    from adjobs.stack.activity import running_jobs

    home = home_folder(os.environ)
    jobs = [] if force else running_jobs(home)
    if jobs:
        _confirm(jobs)
    result = lifecycle.down(home)
    return result, "stopped" if result.stopped else "nothing was running"


def _confirm(jobs: list[str]) -> None:
    """Ask whether to interrupt jobs.

    Raises:
        StackError: no, or nobody can answer.
    """
    text = f"{len(jobs)} {'job is' if len(jobs) == 1 else 'jobs are'} running: {shorten(', '.join(jobs), 300)}"
    if not _is_interactive():
        raise StackError(f"{text}; wait for the end, or stop all the same with: adjobs down --force")
    if not click.confirm(f"{text}. Stop the stack all the same?", err=True):
        raise StackError("nothing was stopped")


def _is_interactive() -> bool:
    return sys.stdin.isatty()
