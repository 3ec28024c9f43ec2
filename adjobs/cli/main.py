"""``adjobs``: the group of all verbs in this folder."""

from __future__ import annotations

import importlib
import pkgutil

import click

from adjobs import cli
from adjobs.version import __version__

_NOT_VERBS = {"main", "output", "signals"}


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


@click.group(cls=Verbs)
@click.version_option(__version__, prog_name="adjobs")
def main() -> None:
    """Train, track and use industrial anomaly detectors as jobs on a Ray cluster."""
