"""Who may use the queue: a bearer token for each user, of which only a hash is stored."""

from __future__ import annotations

import re
import secrets
from enum import StrEnum
from typing import NamedTuple

import sqlalchemy as sa

from adjobs.errors import QueueError
from adjobs.queue.schema import tokens
from adjobs.web.key_file import digest

_USER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,99}")


class Role(StrEnum):
    """What a user may do: see jobs, also submit and change their own, or change everybody's."""

    VIEWER = "viewer"
    SUBMITTER = "submitter"
    ADMIN = "admin"


class Identity(NamedTuple):
    """Whose token was given."""

    user: str
    role: Role


class TokenInfo(NamedTuple):
    """What is known of a token: its first characters, which name it, but not the rest."""

    prefix: str
    user: str
    role: Role
    created_at: float


def create(connection: sa.Connection, user: str, role: Role, now: float) -> str:
    """Make a token for a user; it is shown this once.

    Raises:
        QueueError: the name is not one that can be shown and sent.
    """
    if not _USER.fullmatch(user):
        raise QueueError(f"user {user[:100]!r}: allowed are up to 100 letters, digits and . _ @ -; choose another name")
    token = f"adj_{secrets.token_urlsafe(32)}"
    register(connection, token, user, role, now)
    return token


def register(connection: sa.Connection, token: str, user: str, role: Role, now: float) -> None:
    """Let the bearer of a token in that was made elsewhere; one that is known already stays as it is."""
    if identify(connection, token) is None:
        row = {"digest": digest(token), "prefix": token[:10], "user": user, "role": role.value, "created_at": now}
        connection.execute(tokens.insert().values(**row))


def revoke(connection: sa.Connection, prefix: str) -> TokenInfo:
    """Delete a token by its first characters.

    Raises:
        QueueError: there is none, or several.
    """
    matches = [token for token in select_all(connection) if token.prefix.startswith(prefix[:10]) and len(prefix) > len("adj_")]
    if len(matches) != 1:
        problem = f"{len(matches)} match; give the first ten characters, which 'adjobs token list' shows"
        raise QueueError(f"token {prefix[:10]}…: {problem}")
    connection.execute(tokens.delete().where(tokens.c.prefix == matches[0].prefix))
    return matches[0]


def select_all(connection: sa.Connection) -> list[TokenInfo]:
    """All tokens, the latest first."""
    columns = (tokens.c.prefix, tokens.c.user, tokens.c.role, tokens.c.created_at)
    rows = connection.execute(sa.select(*columns).order_by(tokens.c.created_at.desc()))
    return [TokenInfo(row.prefix, row.user, Role(row.role), row.created_at) for row in rows]


def identify(connection: sa.Connection, token: str) -> Identity | None:
    """Whose token this is; None if nobody's. The hash is looked up, so that timing says nothing about the token."""
    row = connection.execute(sa.select(tokens.c.user, tokens.c.role).where(tokens.c.digest == digest(token))).first()
    return None if row is None else Identity(row.user, Role(row.role))


def identities(connection: sa.Connection) -> dict[str, Identity]:
    """Whose each token is, by its digest."""
    rows = connection.execute(sa.select(tokens.c.digest, tokens.c.user, tokens.c.role))
    return {row.digest: Identity(row.user, Role(row.role)) for row in rows}
