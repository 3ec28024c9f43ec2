"""The records of a model in a folder, and in S3 as SeaweedFS speaks it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from adjobs.errors import DamagedError, StorageError
from adjobs.registry import history as history_module
from adjobs.registry.history import SNAPSHOT, History, history_location
from adjobs.registry.models import RegisteredModel
from adjobs.registry.record import Action, AliasChange, GateSummary, HistoryRecord
from adjobs.storage import LocalStore, open_store
from tests.helpers.s3 import s3_environment, server

__all__ = ["s3_environment", "server"]

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


def record(number: int, **more: object) -> HistoryRecord:
    changes = (AliasChange("champion", number - 1 or None, number),)
    values = {"number": number, "at": NOON + timedelta(hours=number), "by": "ann", "action": Action.PROMOTE, "changes": changes}
    return HistoryRecord(**values | more)


def fill(history: History, count: int) -> list[HistoryRecord]:
    records: list[HistoryRecord] = []
    for number in range(1, count + 1):
        records.append(record(number))
        assert history.append(records[:-1], records[-1])
    return records


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.slow)])
def uri(request, tmp_path):
    if request.param == "folder":
        return str(tmp_path / "history")
    request.getfixturevalue("server")
    return f"s3://adjobs/{tmp_path.name}"


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"verdict": GateSummary("refuse", "refuse: 1 of 2 checks failed"), "reason": "ü\u2028", "request_id": "run-7"},
        {"action": Action.OUTSIDE, "not_before": NOON, "changes": (AliasChange("champion", 3, None),)},
    ],
)
def test_record_survives_json(more):
    original = record(7, **more)
    assert HistoryRecord.from_dict(json.loads(original.to_bytes())) == original


def test_history_reads_what_was_appended(uri):
    assert History(open_store(uri)).read() == ()
    records = fill(History(open_store(uri)), 3)
    assert History(open_store(uri)).read() == tuple(records)
    assert History(open_store(uri)).has(3)
    assert not History(open_store(uri)).has(4)


def test_history_several_writers_of_a_number_one_succeeds(uri):
    records = fill(History(open_store(uri)), 1)
    store = open_store(uri)
    rivals = [record(2, by=f"user {i}") for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(lambda rival: History(store).append(records, rival), rivals))
    assert outcomes.count(True) == 1
    assert History(open_store(uri)).read()[1] == rivals[outcomes.index(True)]


def test_history_repeated_append_of_the_same_record_succeeds(uri):
    first = record(1)
    assert History(open_store(uri)).append([], first)
    assert History(open_store(uri)).append([], first)


def test_history_beyond_a_folder_and_a_snapshot_is_complete(tmp_path, monkeypatch):
    monkeypatch.setattr(history_module, "_BLOCK", 4)
    monkeypatch.setattr(history_module, "SNAPSHOT_INTERVAL", 5)
    for count in (3, 4, 5, 7, 8, 9, 12, 17):
        store = LocalStore(tmp_path / str(count))
        records = fill(History(store), count)
        assert History(store).read() == tuple(records), count
        assert store.exists(SNAPSHOT) == (count >= 5)
        store.delete(SNAPSHOT)
        assert History(store).read() == tuple(records), count


def test_history_old_snapshot_is_written_again(tmp_path, monkeypatch):
    monkeypatch.setattr(history_module, "SNAPSHOT_INTERVAL", 5)
    store = LocalStore(tmp_path)
    records = fill(History(store), 9)
    store.write(SNAPSHOT, json.dumps([records[0].to_dict()]).encode())
    history = History(store)
    assert history.append(history.read(), record(10))
    assert len(json.loads(store.read(SNAPSHOT))) == 10


@pytest.mark.parametrize("content", ["", "[1]", "{}", '[{"number": 2}]', "null", '"x"'])
def test_history_damaged_snapshot_is_not_used(tmp_path, content, caplog):
    store = LocalStore(tmp_path)
    records = fill(History(store), 2)
    store.write(SNAPSHOT, content.encode())
    assert History(store).read() == tuple(records)
    assert "snapshot.json is damaged" in caplog.text or content == "{}"


@pytest.mark.parametrize("content", ["", "[]", "{}", "null"])
def test_history_damaged_record_is_one_line(tmp_path, content):
    store = LocalStore(tmp_path)
    fill(History(store), 2)
    store.write("records/00000/00000002.json", content.encode())
    with pytest.raises(DamagedError, match=r"00000002.json: is damaged \(.*\); restore it from a backup"):
        History(store).read()


def test_history_record_in_the_place_of_another_or_missing_is_one_line(tmp_path):
    store = LocalStore(tmp_path)
    records = fill(History(store), 3)
    store.write("records/00000/00000002.json", records[2].to_bytes())
    with pytest.raises(DamagedError, match="it holds record 3 in the place of 2"):
        History(store).read()
    store.delete("records/00000/00000002.json")
    with pytest.raises(StorageError, match=r"cannot read .*00000002.json: No such file"):
        History(store).read()


def test_history_snapshot_that_cannot_be_written_does_not_fail_a_change(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(history_module, "SNAPSHOT_INTERVAL", 1)

    def refuse(*_: object) -> None:
        raise StorageError("no space")

    monkeypatch.setattr(LocalStore, "write", refuse)
    assert History(LocalStore(tmp_path)).append([], record(1))
    assert "no space" in caplog.text


def test_history_location_differs_between_models_that_share_a_name():
    first = RegisteredModel("line 3/ü", NOON, {}, "", {}, None)
    location = history_location("s3://adjobs/artifacts", first)
    assert location.startswith("s3://adjobs/artifacts/registry/line_3_-")
    again = RegisteredModel("line 3/ü", NOON + timedelta(milliseconds=1), {}, "", {}, None)
    assert history_location("s3://adjobs/artifacts", again) != location
