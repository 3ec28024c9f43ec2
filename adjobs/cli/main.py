"""``adjobs``: the group of all verbs in this folder."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from adjobs import cli
from adjobs.cli.output import fail
from adjobs.errors import JobError, shorten
from adjobs.version import __version__

EPILOG = """\b
Exit status:
  0    done
  1    done, and something was found wrong: a problem in the data, a file that
       could not be read, a service that does not run
  2    could not be done; one line on standard error says why
  130  stopped by Ctrl-C, 143 by SIGTERM; nothing is left half-written, and one
       line on standard error says how to resume what can be resumed

\b
Environment:
  ADJOBS_HOME          local state and results (default ~/.adjobs)
  ADJOBS_CACHE         fetched and decoded images (default cache in ADJOBS_HOME)
  ADJOBS_ARTIFACTS     folder or s3:// prefix for checkpoints and models' histories
  MLFLOW_TRACKING_URI  MLflow, where it is not the one of 'adjobs up'
  RAY_ADDRESS          Ray cluster, where it is not the one of 'adjobs up'
  AWS_ENDPOINT_URL     S3-compatible storage
  ADJOBS_QUEUE_URL     queue for 'adjobs submit', with ADJOBS_QUEUE_TOKEN_PATH
"""
EXIT_INTERRUPTED = 130
# Which extra has a package that is missing, where it is not train.
_EXTRAS = dict.fromkeys(("fastapi", "prometheus_client", "python_multipart", "starlette", "uvicorn"), "serve")
_NOT_VERBS = {"driver", "main", "output", "signals"}


class Verbs(click.Group):
    """A group whose commands are the modules of ``adjobs.cli``, imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the verbs, sorted."""
        return sorted(module.name for module in pkgutil.iter_modules(cli.__path__) if module.name not in _NOT_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one verb."""
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = importlib.import_module(f"adjobs.cli.{cmd_name}").command
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the options before the verb."""
        with _usage_errors(as_json=False):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        """Run a verb; Ctrl-C while it is imported is one line, too."""
        try:
            with _usage_errors(as_json="--json" in ctx.args):
                return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("stopped", err=True)
            sys.exit(EXIT_INTERRUPTED)


@contextmanager
def _usage_errors(*, as_json: bool) -> Iterator[None]:
    """Errors in options and arguments, and packages that are missing, as one line, like all others; click prints three."""
    try:
        yield
    except ImportError as error:
        package = (error.name or "adjobs").partition(".")[0]
        if importlib.util.find_spec(package) is not None:  # a fault, not a package that is missing
            raise
        extra = _EXTRAS.get(package, "train")
        message = f"this needs the package {package}, which is not installed; run: pip install 'adjobs[{extra}]'"
        fail(JobError(message), as_json=as_json, debug=False)
    except click.exceptions.NoArgsIsHelpError:
        raise
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "adjobs"
        message = shorten(error.format_message(), 400).rstrip(".?")
        fail(JobError(f"{message}; see '{command} --help'"), as_json=as_json, debug=False)


@click.group(cls=Verbs, epilog=EPILOG)
@click.version_option(__version__, prog_name="adjobs")
def main() -> None:
    """Train, track and use industrial anomaly detectors as jobs on a Ray cluster."""
