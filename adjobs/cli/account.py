"""``adjobs account``: who may use MLflow. Run beside its server."""

from __future__ import annotations

import secrets
from pathlib import Path

import click

from adjobs.cli.output import VerbResult, table, verb
from adjobs.errors import TrackingError

ROLES = ("member", "approver", "editor", "admin")


@click.group()
def command() -> None:
    """Make, list and remove accounts of MLflow.

    Runs on the machine of MLflow's server, where MLFLOW_AUTH_CONFIG_PATH names its settings. The accounts are not those of
    the queue, which has tokens, and not that of 'adjobs up', which has one user.
    """


@command.command("set")
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice(ROLES),
    help="member: reads everything, owns what it makes. approver: also changes all registered models, such as their aliases. "
    "editor: also adds to the experiments and runs of others. admin: everything.  [default: as it is, else member]",
)
@click.option(
    "--password-file", type=click.Path(path_type=Path), help="File that holds the password.  [default: a new one is printed]"
)
@verb
def set_account(name: str, role: str | None, password_file: Path | None) -> VerbResult:
    """Make an account, or give it a new password, and print that, this once."""
    from adjobs.tracking import accounts

    password = secrets.token_urlsafe(24) if password_file is None else _read(password_file)
    account = accounts.set_account(name, None if role is None else accounts.AccountRole(role), password)
    if password_file is not None:
        return account._asdict(), f"{account.name}: {account.role}"
    return {**account._asdict(), "password": password}, password


@command.command("list")
@verb
def list_accounts() -> VerbResult:
    """List the accounts."""
    from adjobs.tracking import accounts

    listed = accounts.list_accounts()
    return {"accounts": [account._asdict() for account in listed]}, table([list(account) for account in listed], ["name", "role"])


@command.command()
@click.argument("name")
@verb
def remove(name: str) -> VerbResult:
    """Remove an account; its experiments, runs and models stay."""
    from adjobs.tracking import accounts

    accounts.remove_account(name)
    return {"name": name}, f"removed {name}"


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise TrackingError(f"--password-file {path}: cannot be read ({error}); give a file with the password") from error
