"""Archives of working directories."""

from __future__ import annotations

import zipfile

import pytest

from adjobs.errors import QueueError, StorageError
from adjobs.queue.archives import Archives, check_archive
from tests.helpers.queue import write_zip


@pytest.mark.parametrize("name", ["../out.py", "/etc/passwd", "a/../../b", "a\\b"])
def test_check_archive_refuses_paths_that_lead_out(tmp_path, name):
    with pytest.raises(QueueError, match="not an archive of files"):
        check_archive(write_zip(tmp_path / "a.zip", name)[0])


def test_check_archive_refuses_what_is_no_archive_and_what_grows_when_unpacked(tmp_path, monkeypatch):
    (tmp_path / "text").write_text("no archive")
    with pytest.raises(QueueError, match="not an archive of files"):
        check_archive(tmp_path / "text")
    monkeypatch.setattr("adjobs.queue.archives.MAX_ARCHIVE", 10_000)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("zeros", bytes(10_001))
    assert (tmp_path / "bomb.zip").stat().st_size < 1000
    with pytest.raises(QueueError, match="holds 1 files of 10001 bytes"):
        check_archive(tmp_path / "bomb.zip")


def test_fetched_archive_that_was_damaged_is_refused(tmp_path):
    path, digest = write_zip(tmp_path / "a.zip", "a.py")
    archives = Archives.open(str(tmp_path))
    archives.add(digest, path)
    (tmp_path / "queue" / "uploads" / f"{digest}.zip").write_bytes(b"x")
    with pytest.raises(StorageError, match="is damaged; submit the job again"), archives.fetched(digest):
        pass


def test_prune_keeps_what_jobs_name(tmp_path):
    archives = Archives.open(str(tmp_path))
    archives.prune([])
    digests = []
    for name in ("a", "b"):
        path, digest = write_zip(tmp_path / f"{name}.zip", name)
        archives.add(digest, path)
        digests.append(digest)
    archives.prune(digests[:1])
    assert [archives.has(digest) for digest in digests] == [True, False]
