"""The history of a model's aliases: records that are only ever added, in a folder or in S3.

Each record is an object of its own, ``records/00000/00000012.json``, made by a conditional put: of two writers that want the same
number, one succeeds, and the other reads again. ``snapshot.json`` repeats all records to a number in one object. It only saves
reading thousands of them, may be old or missing, and is written again when it is far behind.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from adjobs.errors import DamagedError, StorageError, one_line
from adjobs.registry.models import RegisteredModel
from adjobs.registry.record import HistoryRecord
from adjobs.storage import Store

log = logging.getLogger(__name__)

SNAPSHOT = "snapshot.json"
SNAPSHOT_INTERVAL = 100  # records beyond the snapshot, each of which is a request of every reader
_BLOCK = 1000  # records in a folder: as many as S3 lists in one answer
_THREADS = 16
_INVALID = (ValueError, LookupError, TypeError, AttributeError, OverflowError)  # what a document of another form raises


class History:
    """The records of one model.

    All methods raise StorageError if the storage does not answer, and DamagedError if a record cannot be read.

    Args:
        store: the folder or S3 prefix that holds nothing else.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._snapshot_length = 0

    def read(self) -> tuple[HistoryRecord, ...]:
        """All records, by number."""
        records = self._read_snapshot()
        self._snapshot_length = len(records)
        with ThreadPoolExecutor(_THREADS) as pool:
            records += pool.map(self._read_record, range(len(records) + 1, self._last_number(len(records)) + 1))
        return tuple(records)

    def has(self, number: int) -> bool:
        """Whether there is a record of this number."""
        return self._store.exists(_key(number))

    def append(self, records: Sequence[HistoryRecord], record: HistoryRecord) -> bool:
        """Add a record to those that were read before; False if another writer has added one meanwhile."""
        if record.number != len(records) + 1:
            raise ValueError(f"record {record.number} cannot follow record {len(records)}")
        if not self._store.create(_key(record.number), record.to_bytes()):
            return False
        if record.number - self._snapshot_length >= SNAPSHOT_INTERVAL:
            self._write_snapshot([*records, record])
        return True

    def _last_number(self, known: int) -> int:
        """The highest number, of which at least ``known`` exist."""
        last, block = known, (known + 1) // _BLOCK
        while True:
            names = (entry.key.rpartition("/")[2] for entry in self._store.list(f"records/{block:05}"))
            last = max([last, *(int(name[:8]) for name in names if re.fullmatch(r"[0-9]{8}\.json", name))])
            if (last + 1) // _BLOCK == block:
                return last
            block += 1

    def _read_record(self, number: int) -> HistoryRecord:
        key = _key(number)
        try:
            return _parse([json.loads(self._store.read(key))], number)[0]
        except _INVALID as error:
            raise DamagedError(f"{self._store.uri(key)}: is damaged ({one_line(error)}); restore it from a backup") from error

    def _read_snapshot(self) -> list[HistoryRecord]:
        if not self._store.exists(SNAPSHOT):
            return []
        try:
            return _parse(json.loads(self._store.read(SNAPSHOT)), 1)
        except _INVALID as error:
            log.warning("%s is damaged (%s); all records are read instead", self._store.uri(SNAPSHOT), one_line(error))
            return []

    def _write_snapshot(self, records: Sequence[HistoryRecord]) -> None:
        """Only a help for readers: a change that is recorded does not fail for its sake."""
        try:
            self._store.write(SNAPSHOT, json.dumps([record.to_dict() for record in records]).encode())
        except StorageError as error:
            log.warning("%s", error)
        else:
            self._snapshot_length = len(records)


def history_location(artifacts: str, model: RegisteredModel) -> str:
    """Where the history of a model is kept.

    The time at which the model was registered is part of it: a model of the same name on another server, or one that was deleted
    and registered again, has a history of its own.

    Args:
        artifacts: folder or ``s3://bucket/prefix`` of artifacts.
        model: the model, under the name that it has now.
    """
    identity = hashlib.sha256(f"{model.name}\n{model.created_at.isoformat()}".encode()).hexdigest()[:16]
    return f"{artifacts}/registry/{re.sub(r'[^A-Za-z0-9_-]+', '_', model.name)[:60]}-{identity}"


def _key(number: int) -> str:
    return f"records/{number // _BLOCK:05}/{number:08}.json"


def _parse(documents: Sequence[Any], first: int) -> list[HistoryRecord]:
    """Records that must have the numbers from ``first`` on."""
    records = [HistoryRecord.from_dict(values) for values in documents]
    for number, record in enumerate(records, first):
        if record.number != number:
            raise ValueError(f"it holds record {record.number} in the place of {number}")
    return records
