"""Accounts of an MLflow server that asks for a name and a password, changed in the database of its users.

The server need not run. One that runs knows a new account at once, and forgets an old password within the time for which it may
remember passwords (``auth_cache_ttl_seconds`` of its settings).
"""

from __future__ import annotations

import configparser
import logging
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from adjobs.errors import TrackingError, one_line
from adjobs.tracking.client import mlflow_errors

MIN_PASSWORD = 12  # characters, of MLflow
_NAME = re.compile(r"[A-Za-z0-9._@+-]{1,100}")


class AccountRole(StrEnum):
    """What an account may do, beyond reading everything and owning what it makes."""

    MEMBER = "member"
    APPROVER = "approver"
    EDITOR = "editor"
    ADMIN = "admin"


_EDITED = {AccountRole.APPROVER: {"registered_model"}, AccountRole.EDITOR: {"registered_model", "experiment"}}
"""Of which things a role may change those of others: models with their aliases, experiments with their runs."""


class Account(NamedTuple):
    """A user of MLflow."""

    name: str
    role: AccountRole


def set_account(name: str, role: AccountRole | None, password: str) -> Account:
    """Make an account, or change it.

    Args:
        name: of letters, digits, ``._@+-``.
        role: None: that which it has; a new one is a member.
        password: at least 12 ASCII characters.

    Raises:
        TrackingError: the name or the password cannot be used, there is no server here, or its database refuses.
    """
    if not _NAME.fullmatch(name):
        raise TrackingError(f"account '{name}': a name has up to 100 letters, digits and ._@+-; choose another")
    if len(password) < MIN_PASSWORD or not (password.isascii() and password.isprintable()):
        problem = f"a password of {len(password)} characters"
        raise TrackingError(
            f"account '{name}': got {problem}; it must have at least {MIN_PASSWORD}, all of ASCII; choose another"
        )
    with _users() as store:
        if store.has_user(name):
            role = role or _role_of(store, name)
            store.update_user(name, password=password, is_admin=role == AccountRole.ADMIN)
        else:
            role = role or AccountRole.MEMBER
            store.create_user(name, password, is_admin=role == AccountRole.ADMIN)
        for kind in sorted(_EDITED[AccountRole.EDITOR]):
            _set_grant(store, name, kind, is_granted=kind in _EDITED.get(role, ()))
    return Account(name, role)


def list_accounts() -> list[Account]:
    """All accounts, by name.

    Raises:
        TrackingError: there is no server here, or its database refuses.
    """
    with _users() as store:
        return sorted(Account(user.username, _role(user, roles)) for user, roles in store.list_users_with_roles())


def remove_account(name: str) -> None:
    """Remove an account; its experiments, runs and models stay.

    Raises:
        TrackingError: there is no such account or no server here, or its database refuses.
    """
    with _users() as store:
        if not store.has_user(name):
            names = ", ".join(sorted(user.username for user in store.list_users()))
            raise TrackingError(f"unknown account '{name}'; there are: {names}")
        store.delete_user(name)


@contextmanager
def _users() -> Iterator[Any]:
    """The database of users of the server that is configured in this environment, with its tables."""
    address = _database()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of the server's libraries
        from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore
    for name, level in (("alembic", logging.WARNING), ("mlflow", logging.CRITICAL)):
        logging.getLogger(name).setLevel(level)
    with mlflow_errors(address.render_as_string(hide_password=True)):
        store = SqlAlchemyStore()
        store.init_db(address.render_as_string(hide_password=False))
        try:
            yield store
        finally:
            store.engine.dispose()


def _database() -> URL:
    """Where the server keeps its users."""
    path = os.environ.get("MLFLOW_AUTH_CONFIG_PATH")
    if not path:
        raise TrackingError("MLFLOW_AUTH_CONFIG_PATH is not set; run this command where the server of MLflow runs")
    settings = configparser.ConfigParser()
    try:
        settings.read_string(Path(path).read_text())
        return make_url(settings["mlflow"]["database_uri"])
    except (OSError, UnicodeDecodeError, KeyError, configparser.Error, ArgumentError) as error:
        problem = "it must hold database_uri in a section [mlflow]"
        raise TrackingError(f"MLFLOW_AUTH_CONFIG_PATH: {path} cannot be used ({one_line(error)}); {problem}") from error


def _role_of(store: Any, name: str) -> AccountRole:
    return next(_role(user, roles) for user, roles in store.list_users_with_roles() if user.username == name)


def _role(user: Any, roles: Any) -> AccountRole:
    if user.is_admin:
        return AccountRole.ADMIN
    edited = {grant.resource_type for role in roles for grant in role.permissions if grant.resource_pattern == "*"}
    return next((role for role, kinds in reversed(_EDITED.items()) if kinds <= edited), AccountRole.MEMBER)


def _set_grant(store: Any, name: str, kind: str, *, is_granted: bool) -> None:
    from mlflow.exceptions import MlflowException

    if is_granted:
        store.grant_user_permission(name, kind, "*", "EDIT")
        return
    try:
        store.revoke_user_resource_permission(name, kind, "*")
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
