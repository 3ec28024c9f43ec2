"""The folder of a prediction, resumed after all kinds of ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from adjobs.errors import StorageError
from adjobs.inference.manifest import is_detector
from adjobs.inference.results import LINES_FILE, MODEL_FILE, DetectorIdentity, ResultFolder

IDENTITY = DetectorIdentity("0" * 64, 0.5, "models:/line/1")
NAMES = ["a.png", "b.png", "s3://set/a.png", "c.png"]


def line_of(name: str, **more: Any) -> dict[str, Any]:
    return {"path": name, "score": 0.25, "decision": "normal", "threshold": 0.5, "regions": []} | more


def run(out: Path, names: list[str], *, resume: bool = True, identity: DetectorIdentity = IDENTITY, **more: Any) -> list[str]:
    """Write a line for each image that remains; returns these."""
    with ResultFolder(names, out) as results:
        remaining = results.start(identity, resume=resume)
        for index, name in enumerate(remaining):
            overlay = results.write_overlay(results.overlay(index), name.encode())
            results.append(line_of(name, overlay=overlay, **more))
    return remaining


def stored(out: Path) -> list[str]:
    return [json.loads(line)["path"] for line in (out / LINES_FILE).read_text().splitlines()]


def test_start_resumed_predicts_what_has_no_line(tmp_path):
    assert run(tmp_path, NAMES[:2]) == NAMES[:2]  # nothing to keep yet
    assert run(tmp_path, NAMES) == NAMES[2:]
    assert run(tmp_path, NAMES) == []
    assert stored(tmp_path) == NAMES
    assert run(tmp_path, NAMES, resume=False) == NAMES
    assert stored(tmp_path) == NAMES
    assert not is_detector(tmp_path)  # it must not be taken for a model


def test_start_resumed_overlays_of_kept_lines_stay(tmp_path):
    run(tmp_path, ["x/a.png"])
    run(tmp_path, ["s3://set/a.png", "x/a.png", "y/A.png"])
    names = {
        json.loads(line)["path"]: Path(json.loads(line)["overlay"]) for line in (tmp_path / LINES_FILE).read_text().splitlines()
    }
    assert {path: overlay.read_text() for path, overlay in names.items()} == {path: path for path in names}
    assert len({overlay.name.casefold() for overlay in names.values()}) == 3


@pytest.mark.parametrize(
    "torn", ['{"path": "b.png", "score": 0.2', '{"path": "b.png", "score": 0.25}', "\x00\x00", '{"path": 3}\n', "[]\n"]
)
def test_start_resumed_drops_a_line_that_was_cut_off(tmp_path, torn):
    run(tmp_path, NAMES[:1])
    with (tmp_path / LINES_FILE).open("a") as file:
        file.write(torn)
    assert run(tmp_path, NAMES) == NAMES[1:]
    assert stored(tmp_path) == NAMES


def test_start_resumed_predicts_errors_again(tmp_path):
    with ResultFolder(NAMES[:2], tmp_path) as results:
        for name in results.start(IDENTITY):
            results.append({"path": name, "error": "no answer"} if name == "a.png" else line_of(name))
    assert run(tmp_path, NAMES[:2]) == ["a.png"]
    assert sorted(stored(tmp_path)) == NAMES[:2]


@pytest.mark.parametrize(
    "other", [DetectorIdentity("1" * 64, 0.5, "models:/line/2"), DetectorIdentity("0" * 64, 0.6, "models:/line/1")]
)
def test_start_resumed_with_another_detector_is_refused_and_keeps_the_lines(tmp_path, other):
    run(tmp_path, NAMES[:2])
    with pytest.raises(
        StorageError, match=r"its lines are of model models:/line/1, threshold 0\.5, not of .*; resume with"
    ) as caught:
        run(tmp_path, NAMES, identity=other)
    assert "\n" not in str(caught.value)
    assert stored(tmp_path) == NAMES[:2]
    assert run(tmp_path, NAMES[:2], resume=False, identity=other) == NAMES[:2]
    assert run(tmp_path, NAMES, identity=other) == NAMES[2:]


@pytest.mark.parametrize("content", [None, "", "{}", "[]", '{"digest": 1, "threshold": 0.5, "model": "m", "more": 1}'])
def test_start_resumed_without_the_record_of_the_detector_is_refused(tmp_path, content):
    run(tmp_path, NAMES[:1])
    (tmp_path / MODEL_FILE).unlink()
    if content is not None:
        (tmp_path / MODEL_FILE).write_text(content)
    with pytest.raises(StorageError, match=rf"no {MODEL_FILE} says which detector made {LINES_FILE}; predict without --resume"):
        run(tmp_path, NAMES)


def test_start_resumed_while_another_process_writes_is_refused(tmp_path):
    with ResultFolder(NAMES, tmp_path) as first:
        first.start(IDENTITY)
        with pytest.raises(StorageError, match="another 'adjobs predict' is writing into it"):
            run(tmp_path, NAMES)


def test_write_table_has_the_same_rows_as_the_lines(tmp_path):
    run(tmp_path, NAMES[:2], regions=[[1, 2, 3, 4], [5, 6, 7, 8]], warning="darker")
    with ResultFolder(NAMES, tmp_path) as results:
        for name in results.start(IDENTITY, resume=True):
            results.append({"path": name, "error": "cannot be decoded"})
        table = results.write_table()
        assert results.write_table() == table
    rows = [{key: value for key, value in row.items() if value is not None} for row in parquet.read_table(table).to_pylist()]
    assert rows == [json.loads(line) for line in (tmp_path / LINES_FILE).read_text().splitlines()]
    assert not list(tmp_path.glob(".*.tmp"))
