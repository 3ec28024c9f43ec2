"""How the queue's tables became what they are: a revision of each change, applied by Alembic when a database is opened."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from adjobs.errors import QueueError
from adjobs.queue.schema import REVISION, metadata, version


def upgrade(connection: sa.Connection, revision: str | None) -> None:
    """Bring tables of a revision up to date, in the transaction of the connection; None: there are no tables.

    Raises:
        QueueError: the revision is not known here: a newer adjobs has made it.
    """
    scripts = find_revisions()
    try:
        scripts.get_revision(revision or REVISION)
    except CommandError as error:
        problem = f"its tables are of a newer adjobs (revision {revision}, this one knows {REVISION})"
        raise QueueError(f"{problem}; update adjobs on this machine") from error

    def steps(current: Any, context: Any) -> Any:
        return scripts._upgrade_revs("head", current)

    with EnvironmentContext(Config(), scripts, fn=steps) as environment:
        environment.configure(
            connection, target_metadata=metadata, version_table=version.name, render_as_batch=True, transactional_ddl=True
        )
        environment.run_migrations()


def find_revisions() -> ScriptDirectory:
    """The scripts of all revisions."""
    config = Config()
    config.set_main_option("script_location", "adjobs.queue:migrations")
    return ScriptDirectory.from_config(config)
