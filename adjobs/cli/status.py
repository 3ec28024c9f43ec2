"""``adjobs status``: which services of the embedded stack run."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

import click

from adjobs.cli.output import EXIT_PROBLEMS, VerbResult, table, verb

if TYPE_CHECKING:
    from pathlib import Path

    from adjobs.stack.state import ServiceStatus, StackStatus


@click.command()
@click.option("--env", "as_environment", is_flag=True, help="Print the variables that clients need, secrets among them.")
@click.option(
    "--security",
    is_flag=True,
    help="Check from outside what should be closed: ports, files, and where secrets must not be. The exit status is 1 if "
    "anything is open.",
)
@verb
def command(as_environment: bool, security: bool) -> VerbResult:
    """Show which services of the stack run and answer, and where.

    The exit status is 1 unless all of them do. To use the stack from other programs of a shell: eval "$(adjobs status --env)"
    """
    from adjobs.config.settings import home_folder
    from adjobs.stack import lifecycle

    home = home_folder(os.environ)
    if security:
        from adjobs.stack.security import inspect

        report = inspect(home)
        text = table([[check.what, check.exposure, check.detail] for check in report.checks], ["what", "exposure", "detail"])
        return report, text, 0 if report.is_closed else EXIT_PROBLEMS
    if as_environment:
        return _environment(home)
    status = lifecycle.status(home)
    return status, describe(status, home), 0 if status.running else EXIT_PROBLEMS


def _environment(home: Path) -> VerbResult:
    """Variables for other programs of a shell."""
    from adjobs.config.settings import stack_environment
    from adjobs.stack import lifecycle

    if not lifecycle.is_running(home):
        click.echo("the stack is not running; start it with: adjobs up", err=True)
        return {}, "", EXIT_PROBLEMS
    # Ray's own commands let RAY_ADDRESS override the address that jobs are submitted to; adjobs reads it from the stack's file.
    environment = {name: value for name, value in stack_environment(home).items() if name != "RAY_ADDRESS"}
    return environment, "\n".join(f"export {name}={shlex.quote(value)}" for name, value in environment.items()), 0


def describe(status: StackStatus, home: Path) -> str:
    """A table of the services, and how to log in."""
    from adjobs.stack.credentials import MLFLOW_PASSWORD_FILE, MLFLOW_USER
    from adjobs.tracking.layout import UI_QUERY

    if not status.services:
        return "not running; start it with: adjobs up"
    rows = [_row(name, service) for name, service in status.services.items()]
    text = table(rows, ["service", "state", "pid", "url", "memory", "uptime"])
    if not status.running:
        return f"{text}\n\nnot all services run and answer; {_remedy(status)}"
    lines = [f"to log in to MLflow: user {MLFLOW_USER}, password in {home / 'credentials' / MLFLOW_PASSWORD_FILE}"]
    if "mlflow" in status.services:
        lines.append(f"to see experiments there: {status.services['mlflow'].url}/#/experiments{UI_QUERY}")
    return "\n".join([text, "", *lines])


def _remedy(status: StackStatus) -> str:
    """What to do about services that do not run or do not answer."""
    if all(service.running for service in status.services.values()):  # which 'adjobs up' would leave as they are
        return "wait if the machine is busy, else restart the stack with: adjobs down, then adjobs up"
    return "restart the stack with: adjobs up"


def _row(name: str, service: ServiceStatus) -> list[str]:
    if service.memory is None or service.uptime is None:
        return [name, "exited", "", service.url, "", f"see {service.log}"]
    state = "running" if service.answers else "no answer"
    return [name, state, str(service.pid), service.url, f"{service.memory / 2**20:.0f} MiB", _duration(service.uptime)]


def _duration(seconds: float) -> str:
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    return f"{int(seconds)} s" if not minutes else f"{minutes} min" if not hours else f"{hours} h {minutes % 60} min"
