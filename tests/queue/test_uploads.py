"""Uploads of working directories over HTTP."""

from __future__ import annotations

import hashlib
import socket
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from adjobs.errors import QueueError, StorageError
from adjobs.queue.client import QueueClient
from adjobs.queue.packing import MAX_ARCHIVE
from adjobs.queue.tokens import Role
from adjobs.queue.uploads import Uploads, check_archive
from tests.helpers.queue import RunningQueue


@pytest.fixture(scope="module")
def queue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningQueue]:
    with RunningQueue(tmp_path_factory.mktemp("queue")) as queue:
        yield queue


def archive(path: Path, *names: str) -> tuple[Path, str]:
    """An archive with these members, and its digest."""
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            file.writestr(zipfile.ZipInfo(name), name * 1000)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def stored(queue: RunningQueue) -> list[str]:
    return sorted(path.name for path in (queue.root / "artifacts").rglob("*") if path.is_file())


def send_raw(queue: RunningQueue, token: str, digest: str, length: int, body: bytes) -> socket.socket:
    """Send the head of an upload and the start of its body; the socket stays open."""
    url = urlsplit(queue.url)
    connection = socket.create_connection((url.hostname, url.port))
    head = f"PUT /api/uploads?sha256={digest} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
    head += f"Content-Length: {length}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection


def test_upload_twice_is_stored_once_and_a_job_can_name_it(queue, tmp_path):
    path, digest = archive(tmp_path / "a.zip", "a.py")
    client = queue.client()
    request = queue.request(working_dir=digest)
    with pytest.raises(QueueError, match=f"working directory {digest[:12]}: was not uploaded, or has been pruned; submit again"):
        client.submit([request])
    assert client.upload(digest, path)
    assert not client.upload(digest, path)
    assert stored(queue) == [f"{digest}.zip"]
    with queue.uploads.fetched(digest) as copy:
        assert copy.read_bytes() == path.read_bytes()
    (job,) = client.submit([request])
    (other,) = client.submit([queue.request()])
    assert job["created"]
    assert other["created"], "the working directory is not in the key of the job"
    assert client.get(job["id"])["spec"]["working_dir"] == digest


def test_upload_whose_client_goes_in_the_middle_leaves_nothing(queue, tmp_path):
    path, digest = archive(tmp_path / "gone.zip", *(f"{i}.py" for i in range(100)))
    content = path.read_bytes()
    before, token = stored(queue), queue.token(role=Role.SUBMITTER)
    connection = send_raw(queue, token, digest, len(content), content[: len(content) // 2])
    time.sleep(0.1)
    connection.close()
    time.sleep(0.1)
    assert stored(queue) == before
    assert QueueClient(queue.url, token).upload(digest, path)


def test_upload_of_other_content_than_its_digest_is_refused(queue, tmp_path):
    path, _ = archive(tmp_path / "a.zip", "other.py")
    with pytest.raises(QueueError, match=r"that arrived has the SHA-256 [0-9a-f]{64}, not 0{64}; submit again"):
        queue.client().upload("0" * 64, path)
    assert f"{'0' * 64}.zip" not in stored(queue)


def test_upload_that_is_too_large_is_refused_before_it_is_read(queue):
    token = queue.token(role=Role.SUBMITTER)
    with send_raw(queue, token, "0" * 64, MAX_ARCHIVE + 1, b"") as connection:
        answer = connection.recv(4096).decode()
    assert answer.startswith("HTTP/1.1 413")
    assert f"at most {MAX_ARCHIVE} bytes" in answer


@pytest.mark.parametrize(
    ("role", "token", "problem"),
    [(Role.VIEWER, None, "is a viewer, who cannot change jobs"), (None, "adj_wrong", "unknown or revoked")],
)
def test_upload_of_who_may_not_submit_is_refused_before_it_is_sent(queue, tmp_path, role, token, problem):
    client = QueueClient(queue.url, token or queue.token("vic", role))
    with pytest.raises(QueueError, match=problem):
        client.upload("1" * 64, tmp_path / "never read")


@pytest.mark.parametrize("name", ["../out.py", "/etc/passwd", "a/../../b", "a\\b"])
def test_check_archive_refuses_paths_that_lead_out(tmp_path, name):
    with pytest.raises(QueueError, match="not an archive of files"):
        check_archive(archive(tmp_path / "a.zip", name)[0])


def test_check_archive_refuses_what_is_no_archive_and_what_grows_when_unpacked(tmp_path, monkeypatch):
    (tmp_path / "text").write_text("no archive")
    with pytest.raises(QueueError, match="not an archive of files"):
        check_archive(tmp_path / "text")
    monkeypatch.setattr("adjobs.queue.uploads.MAX_ARCHIVE", 10_000)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("zeros", bytes(10_001))
    assert (tmp_path / "bomb.zip").stat().st_size < 1000
    with pytest.raises(QueueError, match="holds 1 files of 10001 bytes"):
        check_archive(tmp_path / "bomb.zip")


def test_fetched_archive_that_was_damaged_is_refused(tmp_path):
    path, digest = archive(tmp_path / "a.zip", "a.py")
    uploads = Uploads.open(str(tmp_path))
    uploads.add(digest, path)
    (tmp_path / "queue" / "uploads" / f"{digest}.zip").write_bytes(b"x")
    with pytest.raises(StorageError, match="is damaged; submit the job again"), uploads.fetched(digest):
        pass
