"""Imports to S3: what is compared by entity tags, and what is read back."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from adjobs.data import importing
from adjobs.data.dataset import fingerprint
from adjobs.data.importing import import_dataset
from adjobs.data.open import open_dataset
from adjobs.errors import DataError, StorageError
from adjobs.storage import Entry, S3Store
from tests.helpers.datasets import open_folder
from tests.helpers.drawing import draw_folder, draw_loco
from tests.helpers.s3 import s3_environment, server  # noqa: F401 (fixtures)


class Bucket:
    """A store in memory, with entity tags like those of S3."""

    def __init__(self, plain_tags: bool) -> None:
        self.objects: dict[str, bytes] = {}
        self.puts: list[str] = []
        self.gets: list[str] = []
        self._plain_tags = plain_tags

    def put(self, local: Path, key: str) -> None:
        self.puts.append(key)
        self.objects[key] = local.read_bytes()

    def get(self, key: str, local: Path) -> None:
        self.gets.append(key)
        local.write_bytes(self.objects[key])

    def read(self, key: str) -> bytes:
        return self.objects[key]

    def write(self, key: str, data: bytes) -> None:
        self.objects[key] = data

    def list(self, prefix: str = "") -> list[Entry]:
        return [Entry(key, len(data), self._tag(data)) for key, data in sorted(self.objects.items()) if key.startswith(prefix)]

    def uri(self, key: str = "") -> str:
        return f"s3://bucket/data/{key}".rstrip("/")

    def _tag(self, data: bytes) -> str:
        return f'"{hashlib.md5(data).hexdigest()}"' if self._plain_tags else '"0123-2"'


@pytest.fixture(params=[True, False], ids=["md5 tags", "other tags"])
def bucket(request, monkeypatch) -> Bucket:
    store = Bucket(request.param)
    monkeypatch.setattr(importing, "open_store", lambda uri: store)
    return store


def test_import_dataset_bucket_with_md5_tags_is_not_read_back(bucket, request, tmp_path):
    source = open_folder(draw_folder(tmp_path / "source", 6, 3))
    is_read_back = "other" in request.node.name
    assert import_dataset(source, "s3://bucket/data")[:3] == ("s3://bucket/data", 12, 0)
    assert sorted(bucket.puts) == sorted(bucket.objects.keys() - {"manifest.jsonl"})
    assert sorted(bucket.gets) == (sorted(bucket.puts) if is_read_back else [])
    bucket.puts.clear()
    assert import_dataset(source, "s3://bucket/data")[1:] == (0, 12, 0)
    assert bucket.puts == []


def test_import_dataset_missing_or_damaged_objects_are_copied_again(bucket, tmp_path):
    source, put = open_folder(draw_folder(tmp_path / "source", 6, 3)), bucket.put

    def fail(local: Path, key: str) -> None:
        if key == "good/005.png":
            raise StorageError("gone")
        put(local, key)

    bucket.put = fail
    with pytest.raises(StorageError):
        import_dataset(source, "s3://bucket/data")
    bucket.put = put
    bucket.objects["good/001.png"] = b"?" * len(bucket.objects["good/001.png"])
    result = import_dataset(source, "s3://bucket/data")
    assert result.copied >= 2
    assert bucket.objects["good/001.png"] == (source.root / "good" / "001.png").read_bytes()
    assert len(bucket.objects["manifest.jsonl"].splitlines()) == 9


def test_import_dataset_object_not_stored_is_refused(bucket, tmp_path):
    source, put = open_folder(draw_folder(tmp_path / "source", 6, 3)), bucket.put
    bucket.put = lambda local, key: None if key == "good/004.png" else put(local, key)
    with pytest.raises(DataError, match=r"good/004.png: its copy differs from it"):
        import_dataset(source, "s3://bucket/data")
    assert b"unfinished" in bucket.objects["manifest.jsonl"]


@pytest.mark.slow
def test_import_dataset_to_s3_and_back(server, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(S3Store, "get", lambda *_: pytest.fail("small files are compared by their tags"))
    source, destination = open_folder(draw_loco(tmp_path / "source")), f"s3://adjobs/{tmp_path.name}/copy"
    assert import_dataset(source, destination).copied == 22 + 9 + 1
    copy = open_dataset(destination, cache=tmp_path / "cache")
    assert (copy.format, fingerprint(copy)) == ("manifest", fingerprint(source))
    assert import_dataset(source, destination)[1:] == (0, 32, 0)
    shutil.copytree(copy.root, tmp_path / "restored")
    with pytest.raises(DataError, match="contains another data set"):
        import_dataset(open_folder(draw_folder(tmp_path / "other", 6, 3)), destination)
