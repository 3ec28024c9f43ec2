from __future__ import annotations

from pathlib import Path

import pytest

from adjobs.data.dataset import fingerprint
from adjobs.data.reading import ReadOptions
from adjobs.data.versions import fetching
from adjobs.errors import StorageError
from adjobs.storage import LocalStore
from tests.helpers.datasets import open_folder
from tests.helpers.versioned import add, create, draw, numbered, open_set


class Bucket(LocalStore):
    """A store that counts what is downloaded from it."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.gets: list[str] = []

    def get(self, key: str, local: Path) -> None:
        self.gets.append(key)
        super().get(key, local)


@pytest.fixture
def bucket(tmp_path):
    create(tmp_path, draw(tmp_path / "source", numbered("good/{}.png", 10)))
    add(tmp_path, draw(tmp_path / "inbox", "scratch/x.png new.png", seed=1))
    return Bucket(tmp_path / "set")


def test_fetch_version_downloads_what_the_version_needs(bucket, tmp_path):
    fetched = fetching.fetch_version(bucket, tmp_path / "cache", 1)
    assert fetched.number == 1
    assert len(bucket.gets) == 12  # header, list, ten images
    dataset = open_folder(fetched.folder)
    assert fingerprint(dataset) == open_set(tmp_path).record(1).fingerprint


def test_fetch_version_downloads_nothing_twice(bucket, tmp_path):
    fetching.fetch_version(bucket, tmp_path / "cache", 1)
    bucket.gets.clear()
    fetched = fetching.fetch_version(bucket, tmp_path / "cache")
    assert (fetched.number, len(bucket.gets)) == (2, 3)  # list, two images
    bucket.gets.clear()
    assert fetching.fetch_version(bucket, tmp_path / "cache") == fetched
    assert bucket.gets == []


def test_fetch_version_older_version_stays_readable_in_the_cache(bucket, tmp_path):
    folder = fetching.fetch_version(bucket, tmp_path / "cache").folder
    fetching.fetch_version(bucket, tmp_path / "cache", 1)
    assert [len(open_folder(folder, options=ReadOptions(version=number)).samples) for number in (1, 2)] == [10, 12]


def test_fetch_version_missing_object_fails_and_is_fetched_later(bucket, tmp_path):
    path = next(bucket.root.rglob("scratch/x.png"))
    content = path.read_bytes()
    path.unlink()
    with pytest.raises(StorageError, match=r"cannot read .*scratch/x.png"):
        fetching.fetch_version(bucket, tmp_path / "cache")
    path.write_bytes(content)
    assert len(open_folder(fetching.fetch_version(bucket, tmp_path / "cache").folder).samples) == 12
