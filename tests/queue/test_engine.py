from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from adjobs.errors import QueueError
from adjobs.queue import engine as engine_module
from adjobs.queue.engine import open_engine
from adjobs.queue.records import NewJob
from adjobs.queue.schema import REVISION, version
from adjobs.queue.store import JobStore
from tests.helpers.job_store import open_by_processes


def set_revision(url: str, revision: str) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(version.update().values(version_num=revision))
    engine.dispose()


def revision_of(url: str) -> Any:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        revisions = connection.execute(sa.select(version.c.version_num)).scalars().all()
    engine.dispose()
    return revisions


def test_open_engine_new_database_has_the_tables_of_this_version(database):
    open_engine(database).dispose()
    open_engine(database).dispose()
    assert revision_of(database) == [REVISION]


def test_open_engine_database_of_a_newer_adjobs_is_one_line_and_left_alone(database):
    open_engine(database).dispose()
    set_revision(database, "9999")
    problem = rf"its tables are of a newer adjobs \(revision 9999, this one knows {REVISION}\); update adjobs on this machine"
    with pytest.raises(QueueError, match=rf"^queue [^\n]*: {problem}$"):
        open_engine(database)
    assert revision_of(database) == ["9999"]


def test_open_engine_beside_tables_of_mlflow_touches_none(database):
    """MLflow keeps its own revision, and has a table named jobs."""
    engine = sa.create_engine(database)
    with engine.begin() as connection:
        connection.exec_driver_sql("create table alembic_version (version_num varchar(32) not null)")
        connection.exec_driver_sql("insert into alembic_version values ('abc')")
        connection.exec_driver_sql("create table jobs (id varchar(36))")
    store = JobStore(database)
    assert store.submit(NewJob("k", {}, "ann", "a"))[0].position == 1
    store.close()
    with engine.begin() as connection:
        assert connection.exec_driver_sql("select version_num from alembic_version").scalar() == "abc"
        assert connection.exec_driver_sql("select count(*) from jobs").scalar() == 0
    engine.dispose()


@pytest.mark.slow
def test_open_engine_new_database_by_processes_at_once(database):
    assert open_by_processes(database, 4) == [""] * 4
    assert revision_of(database) == [REVISION]


def test_open_engine_waits_for_a_process_that_writes_to_a_new_file(tmp_path):
    """SQLite itself does not wait: it refuses the switch to its write-ahead log at once."""
    path = tmp_path / "queue.db"
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("begin immediate")
    with ThreadPoolExecutor(1) as pool:
        opening = pool.submit(open_engine, f"sqlite:///{path}")
        time.sleep(0.2)
        assert not opening.done()
        writer.execute("rollback")
        opening.result(timeout=20).dispose()
    writer.close()


def test_open_engine_gives_up_waiting_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(engine_module, "LOCK_SECONDS", 0.1)
    writer = sqlite3.connect(tmp_path / "queue.db", isolation_level=None)
    writer.execute("begin immediate")
    with pytest.raises(QueueError, match=r"cannot be opened .*database is locked.*check ADJOBS_QUEUE_DATABASE"):
        open_engine(f"sqlite:///{tmp_path / 'queue.db'}")
    writer.close()


@pytest.mark.slow
def test_open_engine_up_to_date_database_imports_no_alembic(tmp_path):
    url = f"sqlite:///{tmp_path / 'queue.db'}"
    open_engine(url).dispose()
    code = f"import sys; from adjobs.queue.engine import open_engine; open_engine({url!r}); assert 'alembic' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
