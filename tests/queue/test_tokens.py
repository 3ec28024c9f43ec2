from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from adjobs.errors import QueueError
from adjobs.queue import tokens
from adjobs.queue.schema import tokens as table
from adjobs.queue.store import JobStore
from adjobs.queue.tokens import Identity, Role


@pytest.fixture
def store(tmp_path: Path) -> JobStore:
    return JobStore(f"sqlite:///{tmp_path / 'queue.db'}")


def test_identify_knows_a_token_of_which_only_a_hash_is_stored(store):
    with store.transaction() as connection:
        token = tokens.create(connection, "ann@line-3", Role.SUBMITTER, 1.0)
        assert tokens.identify(connection, token) == Identity("ann@line-3", Role.SUBMITTER)
        assert tokens.identify(connection, token + "x") is None
        (row,) = connection.execute(sa.select(table)).all()
        assert token not in map(str, row)


def test_register_twice_is_once(store):
    with store.transaction() as connection:
        for _ in range(2):
            tokens.register(connection, "adj_" + "a" * 40, "ann", Role.ADMIN, 1.0)
        assert [info.user for info in tokens.select_all(connection)] == ["ann"]


@pytest.mark.parametrize("user", ["", "a b", "a\nb", "<b>", "x" * 101, "-a"])
def test_create_for_a_name_that_cannot_be_shown_is_refused(store, user):
    with store.transaction() as connection, pytest.raises(QueueError, match="choose another name"):
        tokens.create(connection, user, Role.VIEWER, 1.0)


@pytest.mark.parametrize("prefix", ["", "adj_", "adj_nope"])
def test_revoke_needs_the_first_characters_of_one_token(store, prefix):
    with store.transaction() as connection:
        tokens.create(connection, "ann", Role.VIEWER, 1.0)
        with pytest.raises(QueueError, match="0 match; give the first ten characters"):
            tokens.revoke(connection, prefix)
