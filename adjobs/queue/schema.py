"""The tables of the queue, on SQLite and on PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from adjobs.errors import QueueError, one_line
from adjobs.queue.states import LIVE

metadata = sa.MetaData()

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("id", sa.String(32), nullable=False, unique=True),
    sa.Column("key", sa.String(64), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("user", sa.String(200), nullable=False),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("spec", sa.JSON, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("max_attempts", sa.Integer, nullable=False),
    sa.Column("stop_requested", sa.Boolean, nullable=False),
    sa.Column("owner", sa.String(100), nullable=False),
    sa.Column("lease_until", sa.Float, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("started_at", sa.Float),
    sa.Column("ended_at", sa.Float),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("run_id", sa.String(64)),
    sa.Column("progress", sa.JSON),
    sqlite_autoincrement=True,  # a deleted job's number is never given again
)
# Equal jobs are one, as long as it lives.
_live = jobs.c.state.in_([state.value for state in LIVE])
sa.Index("one_live_job_per_key", jobs.c.key, unique=True, sqlite_where=_live, postgresql_where=_live)
sa.Index("jobs_by_order", jobs.c.state, jobs.c.priority.desc(), jobs.c.seq)

predecessors = sa.Table(
    "predecessors",
    metadata,
    sa.Column("job", sa.String(32), sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("predecessor", sa.String(32), primary_key=True, index=True),
)

history = sa.Table(
    "history",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("job", sa.String(32), sa.ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("time", sa.Float, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
)

tokens = sa.Table(
    "tokens",
    metadata,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("prefix", sa.String(10), nullable=False, unique=True),
    sa.Column("user", sa.String(100), nullable=False),
    sa.Column("role", sa.String(16), nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
)

READS_ONLY = "adjobs_reads_only"
"""Option of a connection that writes nothing, and therefore waits for nobody."""

_LOCK = 712_002  # of PostgreSQL's advisory locks; one number for all that the queue does one at a time


def open_engine(url: str) -> sa.Engine:
    """Connect to the queue's database and make its tables if they are missing.

    Args:
        url: ``sqlite:///<file>`` or ``postgresql+pg8000://…``.

    Raises:
        QueueError: it cannot be reached, or is another database.
    """
    try:
        parsed = make_url(url)
        engine = _sqlite(parsed) if parsed.get_backend_name() == "sqlite" else _server(parsed)
        with engine.begin() as connection:
            one_at_a_time(connection)
            metadata.create_all(connection)
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


def _server(url: sa.URL) -> sa.Engine:
    # A connection is slow to make, and most are needed at once only now and then: the last used is the first to be used again.
    engine = sa.create_engine(url, pool_size=16, max_overflow=32, pool_use_lifo=True)

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
    engine = sa.create_engine(url, connect_args={"timeout": 30})

    @sa.event.listens_for(engine, "connect")
    def configure(connection: sa.engine.interfaces.DBAPIConnection, _: object) -> None:
        # Python's driver would begin transactions only at the first write, after the counting that they must protect.
        connection.isolation_level = None
        for statement in ("pragma journal_mode=wal", "pragma synchronous=full", "pragma foreign_keys=on"):
            connection.execute(statement)

    @sa.event.listens_for(engine, "begin")
    def start_transaction(connection: sa.Connection) -> None:
        reads_only = connection.get_execution_options().get(READS_ONLY)
        connection.exec_driver_sql("begin" if reads_only else "begin immediate")

    return engine


def _shown(url: str) -> str:
    """A database's address without its password."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except sa.exc.ArgumentError:
        return "(unreadable address)"
