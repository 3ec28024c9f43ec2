"""The databases on which the queue is tested."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adjobs.queue.store import JobStore
from tests.helpers.job_store import Clock
from tests.helpers.postgres import PostgresServer, running_postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server for the session."""
    with running_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'queue.db'}"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture
def clock() -> Clock:
    """The time of the store's jobs."""
    return Clock()


@pytest.fixture
def store(database: str, clock: Clock) -> Iterator[JobStore]:
    """The record of jobs, empty, on each kind of database."""
    store = JobStore(database, clock)
    yield store
    store.close()
