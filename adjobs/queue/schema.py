"""The tables of the queue, on SQLite and on PostgreSQL. Their names set them apart from MLflow's, which has one named jobs.

A change of a table is a revision in :mod:`adjobs.queue.migrations`, and its number is REVISION.
"""

from __future__ import annotations

import sqlalchemy as sa

from adjobs.queue.states import LIVE

REVISION = "0002"
"""Of these tables."""

metadata = sa.MetaData()

jobs = sa.Table(
    "adjobs_jobs",
    metadata,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("id", sa.String(32), nullable=False, unique=True),
    sa.Column("key", sa.String(64), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("user", sa.String(200), nullable=False),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("spec", sa.JSON, nullable=False),
    # Of the spec, for lists: it would take seconds to decode thousands of them.
    sa.Column("verb", sa.String(16)),
    sa.Column("method", sa.String(200)),
    sa.Column("data", sa.Text),
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
sa.Index("adjobs_jobs_one_live_per_key", jobs.c.key, unique=True, sqlite_where=_live, postgresql_where=_live)
sa.Index("adjobs_jobs_by_order", jobs.c.state, jobs.c.priority.desc(), jobs.c.seq)

predecessors = sa.Table(
    "adjobs_predecessors",
    metadata,
    sa.Column("job", sa.String(32), sa.ForeignKey("adjobs_jobs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("predecessor", sa.String(32), primary_key=True, index=True),
)

history = sa.Table(
    "adjobs_history",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("job", sa.String(32), sa.ForeignKey("adjobs_jobs.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("time", sa.Float, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
)

tokens = sa.Table(
    "adjobs_tokens",
    metadata,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("prefix", sa.String(10), nullable=False, unique=True),
    sa.Column("user", sa.String(100), nullable=False),
    sa.Column("role", sa.String(16), nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
)

figures = sa.Table(
    "adjobs_figures",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("label", sa.String(64), primary_key=True),
    sa.Column("value", sa.Float, nullable=False),
)
"""Totals that only grow, and that stay when jobs are pruned."""

schedules = sa.Table(
    "adjobs_schedules",
    metadata,
    sa.Column("name", sa.String(100), primary_key=True),
    sa.Column("user", sa.String(200), nullable=False),
    sa.Column("cron", sa.String(200), nullable=False),
    sa.Column("time_zone", sa.String(100), nullable=False),
    sa.Column("document", sa.JSON, nullable=False),
    sa.Column("paused", sa.Boolean, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("fired", sa.Float, nullable=False),
    sa.Column("last_job", sa.String(32)),
    sa.Column("reason", sa.Text, nullable=False),
)

version = sa.Table("adjobs_queue_version", sa.MetaData(), sa.Column("version_num", sa.String(32), primary_key=True))
"""Alembic's record of the revision of these tables; MLflow has one of its own."""
