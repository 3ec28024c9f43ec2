"""Recent images in folders, lists, patterns and S3."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adjobs.drift.images import choose, open_recent_images
from adjobs.errors import DataError, StorageError
from adjobs.storage import open_store
from tests.helpers.s3 import s3_environment, server  # noqa: F401 (fixtures)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("a/1.png", "a/2.jpg", "a/notes.md", "b/3.png", "b/.hidden.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def names(*sources: str | Path, limit: int = 100, seed: int = 0) -> list[str]:
    with open_recent_images([str(source) for source in sources], limit, np.random.default_rng(seed)) as recent:
        assert all(image.path.is_file() for image in recent.images)
        return [Path(image.name).name for image in recent.images]


def test_open_recent_images_of_folders_and_files(root):
    assert names(root / "a", root / "b" / "3.png") == ["1.png", "2.jpg", "3.png"]


def test_open_recent_images_named_twice_are_read_once(root):
    assert names(root / "a", root / "a" / "1.png") == ["1.png", "2.jpg"]


def test_open_recent_images_of_a_pattern(root):
    assert names(root / "*" / "*.png") == ["1.png", "3.png"]
    with pytest.raises(DataError, match="no file matches the pattern; give images, folders"):
        names(root / "*.bmp")


def test_open_recent_images_of_a_list_is_relative_to_it(root):
    (root / "list.txt").write_text("# recent\na\n\nb/3.png\n", encoding="utf-8-sig")
    assert names(root / "list.txt") == ["1.png", "2.jpg", "3.png"]


@pytest.mark.parametrize(("content", "message"), [(b"# none\n", "lists no images"), (b"\xff\xfe\x00", "is not UTF-8 text")])
def test_open_recent_images_of_a_list_without_images_is_refused(root, content, message):
    (root / "list.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        names(root / "list.txt")


@pytest.mark.parametrize("source", ["missing", "", " "])
def test_open_recent_images_of_nothing_is_refused(root, source, monkeypatch):
    monkeypatch.chdir(root)
    with pytest.raises(DataError, match="no such file or folder"):
        names(source)


def test_open_recent_images_of_more_than_the_limit_is_a_random_subset(root):
    subsets = {tuple(names(root, limit=2, seed=seed)) for seed in range(20)}
    assert len(subsets) == 3
    assert names(root, limit=2, seed=3) == names(root, limit=2, seed=3)


def test_open_recent_images_counts_links_out_of_a_folder(root, tmp_path_factory):
    (root / "a" / "link.png").symlink_to(root / "b" / "3.png")
    with open_recent_images([str(root / "a")], 10, np.random.default_rng(0)) as recent:
        assert (len(recent.images), recent.available, recent.outside_links) == (2, 2, 1)
    with open_recent_images([str(root / "a")], 10, np.random.default_rng(0), follow_links=True) as recent:
        assert (len(recent.images), recent.outside_links) == (3, 0)


def test_choose_all_keeps_the_order():
    assert choose(3, 3, np.random.default_rng(0)) == [0, 1, 2]
    assert choose(3, 2, np.random.default_rng(0)) in ([0, 1], [0, 2], [1, 2])


@pytest.mark.slow
@pytest.mark.usefixtures("server")
def test_open_recent_images_of_s3_downloads_the_subset_and_deletes_it(root):
    store = open_store("s3://adjobs/recent")
    for path in ("1.png", "2.png", "deep/3.jpg", ".hidden/4.png", "notes.md"):
        store.write(path, b"image")
    with open_recent_images(["s3://adjobs/recent/"], 10, np.random.default_rng(0)) as recent:
        assert [image.name for image in recent.images] == [
            f"s3://adjobs/recent/{key}" for key in ("1.png", "2.png", "deep/3.jpg")
        ]
        paths = [image.path for image in recent.images]
        assert all(path.read_bytes() == b"image" for path in paths)
    assert not any(path.exists() for path in paths)
    assert names("s3://adjobs/recent/1.png", root / "b") == ["3.png", "1.png"]
    with open_recent_images(["s3://adjobs/recent"], 1, np.random.default_rng(0)) as recent:
        assert (len(recent.images), recent.available) == (1, 3)
    with pytest.raises(StorageError, match="s3://adjobs/nothing: no images under this address"):
        names("s3://adjobs/nothing")
