"""``adjobs retrain``: one pass of a retraining now, or schedules in the queue."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

import click

from adjobs.cli.output import VerbResult, verb
from adjobs.cli.retrain import text
from adjobs.errors import JobError, choices, shown

if TYPE_CHECKING:
    from adjobs.queue.client import QueueClient

_PASS = "pass"


class FileOrCommand(click.Group):
    """A group in which the word ``pass`` may be left out before a file."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command with a name, which may be that of a file."""
        return super().get_command(ctx, cmd_name) or self.commands[_PASS]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take what is no command for the file of a pass, or for one of its options."""
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            if get_close_matches(args[0], self.commands) and not Path(args[0]).exists():
                ctx.fail(f"{shown(args[0])} is neither a command nor a file; {choices(args[0], self.commands)}")
            args = [_PASS, *args]
        return super().parse_args(ctx, args)


@click.group(cls=FileOrCommand, short_help="Retrain a registered model, now or on a schedule.")
def command() -> None:
    """Retrain a registered model when there is a reason for it, now or on a schedule.

    \b
    adjobs retrain retrain.yaml
    adjobs retrain schedule retrain.yaml --cron "0 2 * * *" --time-zone Europe/Berlin
    adjobs retrain list
    """  # noqa: D301 (click looks for the control character, not for a backslash)


def _client() -> QueueClient:
    from adjobs.config.environment import load_settings
    from adjobs.queue.client import QueueClient

    return QueueClient.from_settings(load_settings())


@command.command(_PASS, short_help="Do one pass now; the word pass may be left out.")
@click.argument("retrain_file", type=click.Path(path_type=Path))
@click.option("--local", is_flag=True, help="Train in this process, without Ray.")
@click.option("--force", is_flag=True, help="Start a pass whether or not it is due.")
@click.option("--dry-run", is_flag=True, help="Only show what would be done.")
@click.option("--abandon", metavar="REASON", help="Close a pass that was interrupted, in place of going on with it.")
@verb
def run_pass(retrain_file: Path, local: bool, force: bool, dry_run: bool, abandon: str | None) -> VerbResult:
    """Do one pass in this process if one is due, or go on with one that was interrupted.

    It takes in what was labelled, trains on it, compares the new version with the one in force, and moves the alias if the gate
    agrees. It trains on Ray, or here with --local. The word pass may be left out.

    \b
    adjobs retrain retrain.yaml
    adjobs retrain retrain.yaml --dry-run
    """  # noqa: D301 (click looks for the control character, not for a backslash)
    if (abandon is not None) + dry_run + force > 1:
        raise JobError("--abandon, --dry-run and --force: got several; give one of them")
    from adjobs.config.environment import load_settings
    from adjobs.retraining.config import read_retraining

    config, settings = read_retraining(retrain_file), load_settings()

    from adjobs.cli.retrain.progress import PassProgress
    from adjobs.cli.signals import close_runs_when_stopped
    from adjobs.retraining import run

    if abandon is not None:
        result = run.abandon(config.model, settings, abandon)
        return result, text.describe(result)
    with close_runs_when_stopped(), PassProgress() as progress:
        if dry_run:
            result = run.preview_retraining(config, settings, progress)
        else:
            result = run.run_retraining(config, settings, progress, backend="local" if local else "ray", force=force)
    return result, text.describe(result)


@command.command(short_help="Let the queue do a pass again and again.")
@click.argument("retrain_file", type=click.Path(path_type=Path))
@click.option("--cron", required=True, help="Minute, hour, day of month, month and day of week, such as '0 2 * * *'.")
@click.option("--time-zone", help="Of --cron, such as Europe/Berlin.  [default: that of this machine]")
@click.option("--name", help="Name of the schedule; one with the same name is replaced.  [default: that of the model]")
@verb
def schedule(retrain_file: Path, cron: str, time_zone: str | None, name: str | None) -> VerbResult:
    """Let the queue submit a retraining at the times of a cron expression.

    The queue keeps a copy of the file. However many times were missed, one pass makes up for them; while a pass of the model
    waits or runs, there is no second one. The conditions in the file decide whether a submitted pass trains.

    \b
    adjobs retrain schedule retrain.yaml --cron "0 2 * * *"
    adjobs retrain schedule retrain.yaml --cron "30 18 * * MON-FRI" --time-zone Europe/Berlin
    """  # noqa: D301 (click looks for the control character, not for a backslash)
    from adjobs.queue.cron import check_cron, check_time_zone, local_time_zone

    zone = time_zone or local_time_zone()
    check_cron(cron)
    check_time_zone(zone)

    from adjobs.retraining.config import read_retraining

    config = read_retraining(retrain_file)
    request = {
        "name": text.check_name(name) if name is not None else text.name_of(config.model),
        "cron": " ".join(cron.split()),
        "time_zone": zone,
        "document": config.model_dump(mode="json"),
    }
    saved = _client().save_schedule(request)
    return saved, text.saved(saved, is_local_zone=time_zone is None)


@command.command("list", short_help="List the schedules and their next times.")
@verb
def list_schedules() -> VerbResult:
    """List the schedules: when each is due next, and what became of its last time."""
    schedules = _client().schedules()
    return {"schedules": schedules}, text.listing(schedules)


@command.command(short_help="Submit nothing until the schedule is resumed.")
@click.argument("name")
@verb
def pause(name: str) -> VerbResult:
    """Submit nothing until the schedule is resumed; a pass that was submitted goes on."""
    paused = _client().pause_schedule(name)
    return paused, f"schedule {name} is paused; go on with: adjobs retrain resume {name}"


@command.command(short_help="Go on with a paused schedule.")
@click.argument("name")
@verb
def resume(name: str) -> VerbResult:
    """Go on with a paused schedule; times that it missed while it was paused are not made up for."""
    resumed = _client().resume_schedule(name)
    return resumed, f"schedule {name} goes on; next {text.next_text(resumed)}"


@command.command(short_help="Delete a schedule.")
@click.argument("name")
@verb
def remove(name: str) -> VerbResult:
    """Delete a schedule; the passes that it submitted stay."""
    removed = _client().remove_schedule(name)
    return removed, f"schedule {name} is removed"


@command.command(short_help="Submit the retraining of a schedule now.")
@click.argument("name")
@verb
def run(name: str) -> VerbResult:
    """Submit the retraining of a schedule now, whatever its times."""
    job = _client().run_schedule(name)
    state = "is queued" if job["created"] else "has not ended; there is no second pass of its model"
    return job, f"job {job['id']} {state}\n\nfollow it with: adjobs jobs logs -f {job['id']}"
