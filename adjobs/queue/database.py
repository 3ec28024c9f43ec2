"""The connection to the queue's database: transactions, and its errors in one line."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from adjobs.errors import QueueDatabaseError, one_line
from adjobs.queue.engine import READS_ONLY, one_at_a_time, open_engine


class QueueDatabase:
    """Transactions on the tables of the queue."""

    def __init__(self, url: str) -> None:
        """Open it, making its tables if they are missing.

        Args:
            url: ``sqlite:///<file>`` or ``postgresql+pg8000://…``.

        Raises:
            QueueError: it cannot be opened.
        """
        self._engine = open_engine(url)
        self._reading_engine = self._engine.execution_options(**{READS_ONLY: True})
        # SQLite lets those who wait for it sleep up to 100 ms at a time, in no order; threads of one process need not.
        self._turn = threading.Lock()

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """One transaction, alone among those that write to the queue; database errors become ours, in one line."""
        with self._turn, _translated(), self._engine.begin() as connection:
            one_at_a_time(connection)
            yield connection

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A transaction that writes nothing, and neither waits for others nor keeps them waiting."""
        with _translated(), self._reading_engine.begin() as connection:
            yield connection


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except IntegrityError:
        raise
    except (SQLAlchemyError, OSError) as error:  # pg8000 lets errors of its socket through as they are
        cause = one_line(error)[:200]
        raise QueueDatabaseError(f"the queue's database failed ({cause}); check that it runs and has space") from error
