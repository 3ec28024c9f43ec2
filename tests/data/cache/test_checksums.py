from __future__ import annotations

import json

import numpy as np
import pytest

from adjobs.data.cache.checksums import is_intact, write_checksums
from adjobs.data.cache.images import remove_changed_caches
from tests.helpers.tiny import drawn_data

MEGABYTE = 2**20


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.npy").write_bytes(np.random.default_rng(0).bytes(40 * MEGABYTE + 7))
    (tmp_path / "empty").touch()
    write_checksums(tmp_path)
    return tmp_path


def change_byte(path, position):
    with path.open("r+b") as file:
        file.seek(position)
        value = file.read(1)[0]
        file.seek(position)
        file.write(bytes([value ^ 1]))


def test_is_intact_as_written(folder):
    assert is_intact(folder)
    assert is_intact(folder, whole=True)


@pytest.mark.parametrize("size", [0, 20 * MEGABYTE, 40 * MEGABYTE + 6, 40 * MEGABYTE + 8])
def test_is_intact_other_size_is_not(folder, size):
    with (folder / "a.npy").open("r+b") as file:
        file.truncate(size)
    assert not is_intact(folder)


def test_is_intact_changed_byte_is_noticed_by_the_whole_and_at_the_ends(folder):
    change_byte(folder / "a.npy", MEGABYTE + 5)
    assert is_intact(folder)  # one block in three is compared
    assert not is_intact(folder, whole=True)
    change_byte(folder / "a.npy", 40 * MEGABYTE + 6)
    assert not is_intact(folder)


def test_is_intact_missing_or_other_files_are_not(folder):
    (folder / "empty").unlink()
    assert not is_intact(folder)
    assert not is_intact(folder / "missing")
    for text in ("", "[]", '{"a.npy": 3}', '{"a.npy": {"size": "x"}}'):
        (folder / "checksums.json").write_text(text)
        assert not is_intact(folder, whole=True)


def compute(data, log):
    def build(folder):
        log.append(folder)
        (folder / "values.json").write_text(json.dumps([1, 2, 3]))

    return data.compute_once("values", {"version": 1}, lambda folder: json.loads((folder / "values.json").read_text()), build)


@pytest.mark.parametrize("content", [b"[1, 2", b"[1, 2, 4]", b""])
def test_compute_once_file_that_was_cut_off_or_changed_is_made_again(content, folder_root, tmp_path, caplog):
    data, built = drawn_data(folder_root, tmp_path / "cache", size=32)[1], []
    assert compute(data, built) == compute(data, built) == [1, 2, 3]
    assert len(built) == 1
    (path,) = (tmp_path / "cache").rglob("values.json")
    path.write_bytes(content)
    assert compute(data, built) == [1, 2, 3]
    assert len(built) == 2
    assert "files have changed since they were written; they are computed again" in caplog.text


def test_remove_changed_caches_compares_what_was_computed(folder_root, tmp_path):
    data, built = drawn_data(folder_root, tmp_path / "cache", size=32)[1], []
    compute(data, built)
    (path,) = (tmp_path / "cache").rglob("values.json")
    fingerprint = path.parent.parent.name.partition("-")[0]
    assert remove_changed_caches(fingerprint, tmp_path / "cache") == []
    path.write_bytes(b"[1, 2, 4]")
    assert remove_changed_caches(fingerprint, tmp_path / "cache") == [path.parent]
    assert not path.parent.exists()
    assert compute(data, built) == [1, 2, 3]
