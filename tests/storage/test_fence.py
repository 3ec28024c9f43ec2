from __future__ import annotations

import pytest

from adjobs.errors import StorageError, SupersededError
from adjobs.storage import open_store
from adjobs.storage.fence import Fence, write_current


def test_ensure_current_passes_the_current_attempt_alone(tmp_path):
    store = open_store(tmp_path)
    write_current(store, 1)
    Fence(str(tmp_path), 1).ensure_current()
    write_current(store, 2)
    Fence(str(tmp_path), 2).ensure_current()
    with pytest.raises(SupersededError, match="attempt 2 of this job has begun; attempt 1 writes nothing more"):
        Fence(str(tmp_path), 1).ensure_current()


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"attempt": "x"}', b'{"attempt": null}', b"\xff"])
def test_ensure_current_damaged_object_is_one_line(tmp_path, content):
    (tmp_path / "attempt.json").write_bytes(content)
    with pytest.raises(StorageError, match=r"attempt.json: is damaged .*; submit the job again"):
        Fence(str(tmp_path), 1).ensure_current()


def test_ensure_current_without_an_object_does_not_pass(tmp_path):
    with pytest.raises(StorageError):
        Fence(str(tmp_path), 1).ensure_current()
