"""What Ray starts for an attempt of a queued job: ``python -m adjobs.cli.driver JOB ATTEMPT``. Not a verb for people."""

from __future__ import annotations

import click

from adjobs.cli.output import VerbResult, verb


@click.command()
@click.argument("job")
@click.argument("attempt", type=click.IntRange(min=1))
@verb
def command(job: str, attempt: int) -> VerbResult:
    """Run one attempt of a queued job."""
    from adjobs.cli.signals import close_runs_when_stopped
    from adjobs.config.environment import load_settings
    from adjobs.errors import AdjobsError
    from adjobs.queue.dispatcher import ERROR_PREFIX
    from adjobs.queue.driver import describe, drive, exit_status
    from adjobs.training.progress import ProgressBar
    from adjobs.tuning.display import Display

    settings = load_settings()
    with close_runs_when_stopped(), ProgressBar() as bar, Display() as display:
        try:
            result = drive(job, attempt, settings, bar, display)
        except (AdjobsError, OSError, MemoryError) as error:
            message = describe(error)
            click.echo(f"{ERROR_PREFIX}{message}", err=True)
            return {"error": message}, "", exit_status(error)
    sentence = result.get("sentence", f"run {result['run_id']}")  # of a retraining, which may have no run
    return result, f"job {job} is done: {sentence}"


if __name__ == "__main__":
    command()
