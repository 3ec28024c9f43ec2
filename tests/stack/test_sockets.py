"""Which sockets of SeaweedFS are deleted: those that nobody listens on."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from adjobs.stack import sockets
from adjobs.stack.config import OFFSETS

BASE = 20000


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """In place of /tmp; its path is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="adjobs-", dir="/tmp") as name:
        monkeypatch.setattr(sockets, "_FOLDER", Path(name))
        yield Path(name)


def listen(folder: Path, title: str, base: int = BASE) -> tuple[Path, socket.socket]:
    path = folder / f"seaweedfs-filer-grpc-{base + OFFSETS[title]}.sock"
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()
    return path, server


def test_delete_sockets_of_a_running_server_stay_and_left_ones_go(folder: Path) -> None:
    running, server = listen(folder, "S3 filer gRPC")
    left, ended = listen(folder, "S3 volume gRPC")
    other, ended_elsewhere = listen(folder, "S3 filer gRPC", BASE + 30)
    ended.close()
    ended_elsewhere.close()
    sockets.delete_sockets(BASE)
    assert [running.exists(), left.exists(), other.exists()] == [True, False, True]
    server.close()
    sockets.delete_sockets(BASE)
    assert [running.exists(), other.exists()] == [False, True]


def test_delete_sockets_of_another_user_stay(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, server = listen(folder, "S3 filer gRPC")
    server.close()
    with monkeypatch.context() as patch:
        patch.setattr(os, "getuid", lambda: path.stat().st_uid + 1)
        sockets.delete_sockets(BASE)
    assert path.exists()
