"""Mirroring S3 into a cache."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from adjobs.errors import StorageError
from adjobs.storage import Entry, S3Store, fetch, open_store
from tests.storage.test_storage import INVALID_KEYS


def test_fetch_local_path_is_not_copied(folder_root: Path, tmp_path: Path) -> None:
    assert fetch(str(folder_root), tmp_path / "cache") == folder_root
    assert fetch(f"file://{folder_root}", tmp_path / "cache") == folder_root
    assert not (tmp_path / "cache").exists()


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys that the store lists; the content of each is its key."""
    keys: list[str] = []

    def download(_: S3Store, key: str, local: Path) -> str:
        local.parent.mkdir(parents=True, exist_ok=True)
        local.write_text(key)
        return "tag"

    monkeypatch.setattr(S3Store, "list", lambda _: [Entry(key, len(key), "tag") for key in keys])
    monkeypatch.setattr(S3Store, "download", download)
    return keys


@pytest.mark.parametrize("key", [key for key in INVALID_KEYS if key])
def test_fetch_listed_key_outside_the_cache_writes_nothing(listed: list[str], tmp_path: Path, key: str) -> None:
    listed += ["valid", key]
    with pytest.raises(StorageError) as caught:
        fetch("s3://bucket/data", tmp_path / "cache")
    assert repr(key) in str(caught.value)
    assert {path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()} <= {"lock"}


def test_fetch_key_that_is_file_and_folder_is_refused(listed: list[str], tmp_path: Path) -> None:
    listed += ["a/b", "a/b/c"]
    with pytest.raises(StorageError, match=r"'a/b/c' is refused: 'a/b' exists"):
        fetch("s3://bucket/data", tmp_path)


def test_fetch_file_becomes_folder_and_back(listed: list[str], tmp_path: Path) -> None:
    for keys in (["a", "b/c"], ["a/b", "b"], ["a", "b/c"]):
        listed[:] = keys
        folder = fetch("s3://bucket/data", tmp_path)
        assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()) == keys


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys in the order in which they are downloaded."""
    keys: list[str] = []
    download = S3Store.download

    def record(self: S3Store, key: str, local: Path) -> str:
        keys.append(key)
        return download(self, key, local)

    monkeypatch.setattr(S3Store, "download", record)
    return keys


@pytest.mark.slow
def test_fetch_again_downloads_only_changes(server: None, downloads: list[str], tmp_path: Path) -> None:
    uri = f"s3://adjobs/{tmp_path.name}/data"
    store = open_store(uri)
    for key in ("normal/1.png", "normal/2.png", "anomalous/1.png"):
        store.write(key, key.encode())

    folder = fetch(uri, tmp_path / "cache")
    assert sorted(downloads) == ["anomalous/1.png", "normal/1.png", "normal/2.png"]
    assert (folder / "anomalous/1.png").read_text() == "anomalous/1.png"

    downloads.clear()
    assert fetch(uri + "/", tmp_path / "cache") == folder
    assert downloads == []

    store.write("normal/1.png", b"normal/X.png")  # as long as before
    (folder / "normal/2.png").write_bytes(b"damaged")
    (folder / "stray").write_bytes(b"x")
    store.delete("anomalous")
    fetch(uri, tmp_path / "cache")
    assert sorted(downloads) == ["normal/1.png", "normal/2.png"]
    assert (folder / "normal/1.png").read_text() == "normal/X.png"
    assert sorted(path.name for path in folder.rglob("*")) == ["1.png", "2.png", "normal"]


@pytest.mark.slow
def test_fetch_concurrently_downloads_once(server: None, downloads: list[str], tmp_path: Path) -> None:
    uri = f"s3://adjobs/{tmp_path.name}/data"
    for i in range(8):
        open_store(uri).write(f"{i}.png", b"x")
    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(lambda _: fetch(uri, tmp_path / "cache"), range(4)))
    assert len(folders) == 1
    assert len(downloads) == 8
