"""``adjobs token``: who may use the queue. Run on the queue's machine."""

from __future__ import annotations

import time

import click

from adjobs.cli.output import VerbResult, table, verb

ROLES = ("viewer", "submitter", "admin")


@click.group()
def command() -> None:
    """Make, list and revoke tokens of the queue's users.

    Runs on the machine of the queue.
    """


@command.command()
@click.argument("user")
@click.option("--role", type=click.Choice(ROLES), default="submitter", show_default=True, help="What the user may do.")
@verb
def create(user: str, role: str) -> VerbResult:
    """Make a token for a user and print it, this once."""
    from adjobs.queue import tokens
    from adjobs.queue.service import open_store

    with open_store().transaction() as connection:
        token = tokens.create(connection, user, tokens.Role(role), time.time())
    return {"user": user, "role": role, "token": token}, token


@command.command("list")
@verb
def list_tokens() -> VerbResult:
    """List the tokens, each by its first characters."""
    from adjobs.queue import tokens
    from adjobs.queue.service import open_store

    with open_store().transaction() as connection:
        infos = tokens.select_all(connection)
    rows = [[info.prefix, info.user, info.role, f"{time.strftime('%Y-%m-%d', time.gmtime(info.created_at))}"] for info in infos]
    return {"tokens": [info._asdict() for info in infos]}, table(rows, ["token", "user", "role", "created"])


@command.command()
@click.argument("prefix")
@verb
def revoke(prefix: str) -> VerbResult:
    """Revoke a token by its first characters, as 'adjobs token list' shows them."""
    from adjobs.config.environment import load_settings
    from adjobs.queue import tokens
    from adjobs.queue.service import open_store

    settings = load_settings()
    with open_store(settings).transaction() as connection:
        info = tokens.revoke(connection, prefix)
    path = settings.queue.token_path
    text = f"revoked the token {info.prefix}… of {info.user}"
    if path is not None and path.is_file() and path.read_text(errors="replace").startswith(info.prefix):
        text += f"\nit is also in {path}: delete that file, or the queue accepts it again when it is restarted"
    return info._asdict(), text
