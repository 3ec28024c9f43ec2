from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from adjobs.errors import QueueError
from adjobs.queue import engine, migrations
from adjobs.queue.records import NewJob
from adjobs.queue.schedules import Schedules
from adjobs.queue.schema import REVISION, metadata, version
from adjobs.queue.store import JobStore
from tests.helpers.job_store import open_by_processes

NEXT = """
import sqlalchemy as sa
from alembic import op

revision = "next"
down_revision = {revision!r}


def upgrade():
    op.add_column("adjobs_jobs", sa.Column("colour", sa.String(10), nullable=False, server_default="grey"))
    {last}
"""


def test_revisions_lead_to_the_one_of_the_tables():
    assert migrations.find_revisions().get_heads() == [REVISION]


def test_upgrade_from_nothing_gives_the_tables_of_the_schema(database):
    connect = sa.create_engine(database)
    with connect.begin() as connection:
        migrations.upgrade(connection, None)
        context = MigrationContext.configure(connection, opts={"version_table": version.name})
        assert compare_metadata(context, metadata) == []
        assert connection.execute(sa.select(version)).scalars().all() == [REVISION]
    connect.dispose()


@pytest.fixture
def newer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A newer adjobs, with one more revision."""
    scripts = migrations.find_revisions()
    path = tmp_path / "versions"
    path.mkdir()
    (path / "next.py").write_text(NEXT.format(revision=REVISION, last=""))
    locations = [str(Path(migrations.__file__).parent / "versions"), str(path)]
    monkeypatch.setattr(migrations, "find_revisions", lambda: ScriptDirectory(scripts.dir, version_locations=locations))
    monkeypatch.setattr(engine, "REVISION", "next")
    return path / "next.py"


def colours(url: str) -> list[str]:
    connect = sa.create_engine(url)
    with connect.begin() as connection:
        values = connection.exec_driver_sql("select colour from adjobs_jobs").scalars().all()
    connect.dispose()
    return list(values)


def open_older(url: str) -> str:
    """A database of today's adjobs with a job in it; its id."""
    store = JobStore(url)
    (submission,) = store.submit(NewJob("k", {"verb": "train"}, "ann", "a"))
    store.close()
    return submission.id


def test_open_older_database_is_brought_up_to_date_with_its_jobs(database, request):
    identifier = open_older(database)
    request.getfixturevalue("newer")
    store = JobStore(database)
    assert store.get(identifier).name == "a"
    store.close()
    assert colours(database) == ["grey"]


def test_open_older_database_whose_upgrade_fails_stays_as_it_was(database, request):
    identifier = open_older(database)
    request.getfixturevalue("newer").write_text(NEXT.format(revision=REVISION, last='op.execute("select nonsense from nowhere")'))
    with pytest.raises(QueueError, match=r"^queue [^\n]*: cannot be opened"):
        JobStore(database)
    connect = sa.create_engine(database)
    with connect.begin() as connection:
        assert "colour" not in [column["name"] for column in sa.inspect(connection).get_columns("adjobs_jobs")]
        assert connection.execute(sa.select(version)).scalars().all() == [REVISION]
        assert connection.exec_driver_sql("select id from adjobs_jobs").scalars().all() == [identifier]
    connect.dispose()


def test_open_database_without_schedules_gets_them_and_keeps_its_jobs(database):
    """One of revision 0001."""
    identifier = open_older(database)
    connect = sa.create_engine(database)
    with connect.begin() as connection:
        connection.exec_driver_sql("drop table adjobs_schedules")
        connection.execute(version.update().values(version_num="0001"))
    connect.dispose()
    store = JobStore(database)
    assert store.get(identifier).name == "a"
    assert Schedules(store).select() == []
    store.close()


@pytest.mark.slow
def test_open_older_database_by_processes_at_once_is_upgraded_once(database, request):
    open_older(database)
    request.getfixturevalue("newer")
    assert open_by_processes(database, 3) == [""] * 3
    assert colours(database) == ["grey"]
