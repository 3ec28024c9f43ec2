"""Opening the queue's database: its engine, and tables of the revision that this version of adjobs knows."""

from __future__ import annotations

import socket
import sqlite3
import time
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from adjobs.errors import QueueError, one_line
from adjobs.queue.schema import REVISION, metadata, version

READS_ONLY = "adjobs_reads_only"
"""Option of a connection that writes nothing, and therefore waits for nobody."""

_LOCK = 712_002  # of PostgreSQL's advisory locks; one number for all that the queue does one at a time
LOCK_SECONDS = 30.0  # that a connection waits for others
RETRY_SECONDS = 0.02
PRIMARY_CODE = 0xFF  # these bits of SQLite's error codes; the others are details


def open_engine(url: str) -> sa.Engine:
    """Connect to the queue's database; make its tables if they are missing, and bring older ones up to date.

    Args:
        url: ``sqlite:///<file>`` or ``postgresql+pg8000://…``.

    Raises:
        QueueError: it cannot be reached, is another database, or is of a newer version of adjobs.
    """
    try:
        parsed = make_url(url)
        engine = _sqlite(parsed) if parsed.get_backend_name() == "sqlite" else _server(parsed)
        _update_tables(engine)
    except QueueError as error:
        raise QueueError(f"queue {_shown(url)}: {error}") from error
    except (sa.exc.SQLAlchemyError, ImportError, OSError) as error:
        raise QueueError(
            f"queue {_shown(url)}: cannot be opened ({one_line(error)[:200]}); check ADJOBS_QUEUE_DATABASE"
        ) from error
    return engine


def one_at_a_time(connection: sa.Connection) -> None:
    """Let no other process into this kind of transaction until it ends; SQLite's transactions are so from their start."""
    if connection.dialect.name == "postgresql":
        # One message, where the driver would exchange four; it sees from the answer that it is in a transaction.
        driver = connection.connection.driver_connection
        assert driver is not None
        driver.execute_simple(f"begin; select pg_advisory_xact_lock({_LOCK})")


def _update_tables(engine: sa.Engine) -> None:
    with engine.execution_options(**{READS_ONLY: True}).begin() as connection:
        if _revision(connection) == REVISION:
            return
    with engine.begin() as connection:
        one_at_a_time(connection)
        revision = _revision(connection)  # another process may have been faster
        if revision is None:
            metadata.create_all(connection)
            version.create(connection)
            connection.execute(version.insert().values(version_num=REVISION))
        elif revision != REVISION:
            from adjobs.queue.migrations import upgrade  # imports alembic

            upgrade(connection, revision)


def _revision(connection: sa.Connection) -> str | None:
    """That of the tables; None if there are none yet."""
    if not sa.inspect(connection).has_table(version.name):
        return None
    revision: str | None = connection.execute(sa.select(version.c.version_num)).scalar()
    return revision


def _server(url: sa.URL) -> sa.Engine:
    # A connection is slow to make, and most are needed at once only now and then: the last used is the first to be used again.
    engine = sa.create_engine(url, pool_size=16, max_overflow=32, pool_use_lifo=True)

    @sa.event.listens_for(engine, "connect")
    def send_at_once(connection: sa.engine.interfaces.DBAPIConnection, _: object) -> None:
        # pg8000 sends a statement in several small packets, and does not ask the system to send each of them at once: one of
        # them then waits up to 40 ms until the server has acknowledged the one before.
        connection._usock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @sa.event.listens_for(engine, "checkout")
    def ping(connection: sa.engine.interfaces.DBAPIConnection, *_: object) -> None:
        # SQLAlchemy's own ping lets errors through that are not the driver's, and pg8000 raises those of its socket as they are.
        try:
            connection.execute_simple("select 1")  # one message and its answer; a cursor would need eight
        except (engine.dialect.loaded_dbapi.Error, OSError) as error:
            raise sa.exc.DisconnectionError(one_line(error)) from error  # another connection is tried

    return engine


def _sqlite(url: sa.URL) -> sa.Engine:
    if url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(url, connect_args={"timeout": LOCK_SECONDS})

    @sa.event.listens_for(engine, "connect")
    def configure(connection: sa.engine.interfaces.DBAPIConnection, _: object) -> None:
        # Python's driver would begin transactions only at the first write, after the counting that they must protect.
        connection.isolation_level = None
        _use_wal(connection)
        for statement in ("pragma synchronous=full", "pragma foreign_keys=on"):
            connection.execute(statement)

    @sa.event.listens_for(engine, "begin")
    def start_transaction(connection: sa.Connection) -> None:
        reads_only = connection.get_execution_options().get(READS_ONLY)
        connection.exec_driver_sql("begin" if reads_only else "begin immediate")

    return engine


def _use_wal(connection: sa.engine.interfaces.DBAPIConnection) -> None:
    """Let readers go on beside a writer. Where others use a new file at the same time, SQLite refuses without waiting."""
    give_up_at = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            connection.execute("pragma journal_mode=wal")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & PRIMARY_CODE != sqlite3.SQLITE_BUSY or time.monotonic() > give_up_at:
                raise
        else:
            return
        time.sleep(RETRY_SECONDS)


def _shown(url: str) -> str:
    """A database's address without its password."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except sa.exc.ArgumentError:
        return "(unreadable address)"
