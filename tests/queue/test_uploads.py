"""Uploads of working directories over HTTP."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from adjobs.errors import QueueError
from adjobs.queue.client import QueueClient
from adjobs.queue.packing import MAX_ARCHIVE
from adjobs.queue.tokens import Role
from tests.helpers.queue import RunningQueue, write_zip


@pytest.fixture(scope="module")
def queue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningQueue]:
    with RunningQueue(tmp_path_factory.mktemp("queue")) as queue:
        yield queue


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
    path, digest = write_zip(tmp_path / "a.zip", "a.py")
    client = queue.client()
    request = queue.request(working_dir=digest)
    with pytest.raises(QueueError, match=f"working directory {digest[:12]}: was not uploaded, or has been pruned; submit again"):
        client.submit([request])
    assert client.upload(digest, path)
    assert not client.upload(digest, path)
    assert stored(queue) == [f"{digest}.zip"]
    with queue.archives.fetched(digest) as copy:
        assert copy.read_bytes() == path.read_bytes()
    (job,) = client.submit([request])
    (other,) = client.submit([queue.request()])
    assert job["created"]
    assert other["created"], "the working directory is not in the key of the job"
    assert client.get(job["id"])["spec"]["working_dir"] == digest


def test_upload_whose_client_goes_in_the_middle_leaves_nothing(queue, tmp_path):
    path, digest = write_zip(tmp_path / "gone.zip", *(f"{i}.py" for i in range(100)))
    content = path.read_bytes()
    before, token = stored(queue), queue.token(role=Role.SUBMITTER)
    connection = send_raw(queue, token, digest, len(content), content[: len(content) // 2])
    time.sleep(0.1)
    connection.close()
    time.sleep(0.1)
    assert stored(queue) == before
    assert QueueClient(queue.url, token).upload(digest, path)


def test_prune_forgets_working_directories_that_no_job_names(queue, tmp_path):
    client, admin = queue.client(), queue.client("root", Role.ADMIN)
    digests = []
    for name in ("kept", "unused"):
        path, digest = write_zip(tmp_path / f"{name}.zip", name)
        client.upload(digest, path)
        digests.append(digest)
    client.submit([queue.request(working_dir=digests[0])])
    admin.prune(0)
    assert [queue.archives.has(digest) for digest in digests] == [True, False]


def test_upload_of_other_content_than_its_digest_is_refused(queue, tmp_path):
    path, _ = write_zip(tmp_path / "a.zip", "other.py")
    with pytest.raises(QueueError, match=r"that arrived has the SHA-256 [0-9a-f]{64}, not 0{64}; submit again"):
        queue.client().upload("0" * 64, path)
    assert f"{'0' * 64}.zip" not in stored(queue)


def test_upload_that_is_too_large_is_refused_before_it_is_read(queue):
    token = queue.token(role=Role.SUBMITTER)
    with send_raw(queue, token, "0" * 64, MAX_ARCHIVE + 1, b"") as connection:
        answer = connection.recv(4096).decode()
        while "}" not in answer:
            answer += connection.recv(4096).decode()
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
