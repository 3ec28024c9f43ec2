"""Images by name: files, folders, patterns, lists, and S3."""

from __future__ import annotations

from pathlib import Path

import pytest

from adjobs.errors import DataError, StorageError
from adjobs.inference.inputs import S3Reader, find_images, find_inputs
from adjobs.storage import LocalStore, open_store
from adjobs.storage.outputs import OutputFolder
from tests.helpers.s3 import s3_environment, server  # noqa: F401 (fixtures)

KEYS = ("a/1.png", "a/2.jpg", "a/deep/3.png", "a/.hidden/4.png", "a/[x].png", "b/5.png", "b/notes.md")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for key in KEYS:
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).write_bytes(b"image")
    return tmp_path


@pytest.fixture
def bucket(root, monkeypatch) -> Path:
    """A folder that stands for a bucket."""
    monkeypatch.setattr("adjobs.inference.inputs.open_store", lambda uri: LocalStore(root))
    return root


def test_find_inputs_keeps_the_order_of_the_sources(root):
    (root / "list.txt").write_text("b/5.png\na/deep\n")
    names = find_inputs([root / "b", root / "list.txt", str(root / "a" / "*.jpg"), root / "a" / "1.png"]).names
    assert [Path(name).relative_to(root).as_posix() for name in names] == [
        "b/5.png",
        "b/5.png",
        "a/deep/3.png",
        "a/2.jpg",
        "a/1.png",
    ]


@pytest.mark.parametrize(
    ("address", "keys"),
    [
        ("s3://set/a", ["a/1.png", "a/2.jpg", "a/[x].png", "a/deep/3.png"]),
        ("s3://set/b/5.png", ["b/5.png"]),
        ("s3://set/a/*.png", ["a/1.png", "a/[x].png"]),
        ("s3://set/a/[x].png", ["a/[x].png"]),
        ("s3://set/a/[12].*", ["a/1.png", "a/2.jpg"]),
        ("s3://set/**/*.png", ["a/1.png", "a/[x].png", "a/deep/3.png", "b/5.png"]),
        ("s3://set/*/deep/*", ["a/deep/3.png"]),
        ("s3://set/?/5.png", ["b/5.png"]),
    ],
)
@pytest.mark.usefixtures("bucket")
def test_find_inputs_of_a_bucket_takes_prefixes_and_patterns(address, keys):
    assert find_inputs([address]).names == [f"s3://set/{key}" for key in keys]


@pytest.mark.usefixtures("bucket")
def test_find_inputs_of_a_bucket_without_images_is_refused():
    with pytest.raises(StorageError, match="s3://set/none: no images under this address; give"):
        find_inputs(["s3://set/none"])
    with pytest.raises(DataError, match=r"'s3://set/a/\*\.bmp': no image matches the pattern; give"):
        find_inputs(["s3://set/a/*.bmp"])


@pytest.mark.slow
@pytest.mark.usefixtures("server")
def test_s3_reader_reads_objects_by_their_addresses():
    store = open_store("s3://adjobs/lines")
    for name in ("1.png", "2.png"):
        store.write(name, name.encode())
    names = find_inputs(["s3://adjobs/lines/*.png"]).names
    read = S3Reader()
    assert [read(name) for name in names] == [b"1.png", b"2.png"]
    with pytest.raises(StorageError, match=r"cannot read s3://adjobs/lines/3\.png .*: no such object"):
        read("s3://adjobs/lines/3.png")


def test_find_images_leaves_out_hidden_files_and_results_of_earlier_predictions(tmp_path):
    folder = tmp_path / "images"
    for name in ("a.png", "._a.png", ".hidden/b.png", "sub/c.PNG", "notes.txt"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for output in ("predictions/a.png", "sub/old/x.png"):
        with OutputFolder((folder / output).parent, "predict").write(Path(output).name) as temporary:
            temporary.touch()
    assert find_images([folder]).images == [folder / "a.png", folder / "sub" / "c.PNG"]
    assert find_images([folder / "predictions" / "a.png"]).images == [folder / "predictions" / "a.png"]  # named by the user
    with pytest.raises(DataError, match=r"a folder without images; .*; results of earlier predictions are left out"):
        find_images([folder / "predictions"])


def test_find_images_follows_links_inside_a_folder_but_not_out_of_it(tmp_path):
    folder, outside = tmp_path / "images", tmp_path / "disk"
    for path in (folder / "a.png", outside / "b.png", outside / "c.png"):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (folder / "again.png").symlink_to("a.png")
    (folder / "broken.png").symlink_to("missing.png")
    (folder / "file.png").symlink_to(outside / "b.png")
    (folder / "folder").symlink_to(outside)
    (tmp_path / "link").symlink_to(folder)
    images, links = find_images([folder])
    assert [path.name for path in images] == ["a.png", "again.png", "broken.png"]
    assert links == [folder / "file.png", folder / "folder"]
    assert len(find_images([tmp_path / "link"]).images) == 3  # what is named may be a link
    assert find_images([folder / "file.png"]) == ([folder / "file.png"], [])
    followed = find_images([folder], follow_links=True)
    assert len(followed.images) == 6
    assert followed.outside_links == []
    only = tmp_path / "only"
    only.mkdir()
    (only / "x.png").symlink_to(outside / "b.png")
    with pytest.raises(DataError, match=r"without images; .*; links out of it are left out, such as x\.png, unless"):
        find_images([only])
