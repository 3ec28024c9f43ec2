"""The store: a local folder, and S3 as SeaweedFS speaks it."""

from __future__ import annotations

import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from adjobs.errors import StorageError
from adjobs.storage import S3Store, check_key, fetch, open_store, put_tree

INVALID_KEYS = ["../x", "a/../../x", "/etc/x", "a//x", "a\\..\\x", "\\\\host\\x", "./x", "a/./x", "..", ""]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# Addresses


@pytest.mark.parametrize("key", INVALID_KEYS)
def test_check_key_outside_the_folder_is_refused(key: str) -> None:
    with pytest.raises(StorageError) as caught:
        check_key(key)
    assert repr(key) in str(caught.value)


@pytest.mark.parametrize("uri", ["http://host/x", "gs://bucket", "s3://", "s3:///x", "file://host/x"])
def test_open_store_unknown_scheme_is_refused(uri: str) -> None:
    with pytest.raises(StorageError, match=r"not a storage URI \(s3://bucket/prefix, .*available: file, s3"):
        open_store(uri)


def test_open_store_builds_uris(tmp_path: Path) -> None:
    assert open_store(tmp_path).uri("a/b") == str(tmp_path / "a/b")
    assert open_store(f"file://{tmp_path}/x%20y").uri() == str(tmp_path / "x y")
    assert open_store("s3://bucket").uri("a/b") == "s3://bucket/a/b"
    assert open_store("s3://bucket/runs/1/").uri("a/b") == "s3://bucket/runs/1/a/b"
    with pytest.raises(StorageError, match="refused"):
        open_store("s3://bucket/../other")


# What a folder and S3 have in common


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.slow)])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return str(tmp_path / "store")
    request.getfixturevalue("server")
    return f"s3://adjobs/{tmp_path.name}"


def test_create_stores_once(uri: str) -> None:
    store = open_store(uri)
    assert store.create("a/b.json", b"first")
    assert not store.create("a/b.json", b"second")
    assert store.create("a/b.json", b"first"), "a repeated request"
    assert store.read("a/b.json") == b"first"
    assert [entry.key for entry in store.list()] == ["a/b.json"]


def test_create_of_many_at_once_has_one_winner(uri: str) -> None:
    store = open_store(uri)
    assert not store.exists("lock")
    with ThreadPoolExecutor(16) as pool:
        outcomes = list(pool.map(lambda number: store.create("lock", b"%d" % number), range(32)))
    assert outcomes.count(True) == 1
    assert store.read("lock") == b"%d" % outcomes.index(True)


def test_put_and_get_return_the_content(uri: str, tmp_path: Path) -> None:
    store = open_store(uri)
    local = tmp_path / "local.bin"
    local.write_bytes(os.urandom(9_000_000))  # boto3 sends it in several requests

    store.put(local, "a/big.bin")
    store.write("a/small.txt", b"one")
    store.write("a/small.txt", b"two")
    store.get("a/big.bin", tmp_path / "new" / "back.bin")

    assert digest(tmp_path / "new" / "back.bin") == digest(local)
    assert store.read("a/small.txt") == b"two"
    assert store.exists("a/small.txt")
    assert not store.exists("a")
    assert not store.exists("b")
    assert [(entry.key, entry.size) for entry in store.list()] == [("a/big.bin", 9_000_000), ("a/small.txt", 3)]


def test_list_prefix_is_a_folder_or_a_key_not_a_substring(uri: str) -> None:
    store = open_store(uri)
    for key in ("runs/1/a", "runs/1/b/c", "runs/10/a", "runs.txt"):
        store.write(key, b"x")

    assert [entry.key for entry in store.list("runs/1")] == ["runs/1/a", "runs/1/b/c"]
    assert [entry.key for entry in store.list("runs/1/")] == ["runs/1/a", "runs/1/b/c"]
    assert [entry.key for entry in store.list("runs.txt")] == ["runs.txt"]
    assert store.list("nothing") == []

    store.delete("runs/1")
    store.delete("nothing")
    assert [entry.key for entry in store.list()] == ["runs.txt", "runs/10/a"]
    with pytest.raises(StorageError, match="refused"):
        store.delete("")


def test_list_tag_changes_with_the_content(uri: str) -> None:
    store = open_store(uri)
    store.write("a", b"1")
    before = store.list()
    time.sleep(0.01)
    store.write("a", b"2")
    assert store.list() != before


def test_read_missing_object_is_named(uri: str, tmp_path: Path) -> None:
    store = open_store(uri)
    store.write("present", b"x")
    for operation in (lambda: store.read("not/present"), lambda: store.get("not/present", tmp_path / "out")):
        with pytest.raises(StorageError, match=rf"cannot read .*{tmp_path.name}.*not/present.*(no such object|No such file)"):
            operation()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("key", ["../x", "a//x", "/x"])
def test_store_key_outside_the_folder_is_refused(uri: str, tmp_path: Path, key: str) -> None:
    store = open_store(uri)
    for operation in (
        store.read,
        store.exists,
        store.delete,
        lambda key: store.write(key, b"x"),
        lambda key: store.put(tmp_path, key),
    ):
        with pytest.raises(StorageError, match="is refused"):
            operation(key)


def test_put_tree_stores_every_file(uri: str, folder_root: Path) -> None:
    store = open_store(uri)
    count = put_tree(store, folder_root, "data/")
    names = sorted(path.relative_to(folder_root).as_posix() for path in folder_root.rglob("*") if path.is_file())
    assert count == len(names) > 10
    assert [entry.key for entry in store.list()] == [f"data/{name}" for name in names]
    with pytest.raises(StorageError, match="no such folder"):
        put_tree(store, folder_root / "missing", "x")


# A folder


def test_write_file_system_error_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match=r"cannot store .*file/a: (Not a directory|File exists); check the path"):
        open_store(tmp_path).write("file/a", b"x")


@pytest.mark.slow
def test_list_and_fetch_leave_out_folder_markers(server: None, tmp_path: Path) -> None:
    store = S3Store("adjobs", tmp_path.name)
    store.write("data/a", b"x")
    store._client.put_object(Bucket="adjobs", Key=f"{tmp_path.name}/data/mark/", Body=b"")
    assert [entry.key for entry in store.list()] == ["data/a"]
    assert [path.name for path in fetch(store.uri("data"), tmp_path).iterdir()] == ["a"]


@pytest.mark.slow
def test_s3_error_says_what_to_do(server: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    with pytest.raises(StorageError, match=rf"nothing under s3://adjobs/none at {endpoint}; check the URI"):
        fetch("s3://adjobs/none", tmp_path)
    for operation in (lambda s: s.list(), lambda s: s.exists("x"), lambda s: s.read("x"), lambda s: s.write("x", b"")):
        with pytest.raises(StorageError, match=rf"s3://no-bucket.* at {endpoint}: no such bucket"):
            operation(open_store("s3://no-bucket"))
        with pytest.raises(
            StorageError, match=rf"s3://others.* at {endpoint}: not allowed with these keys \(AccessDenied\); check"
        ):
            operation(open_store("s3://others"))

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    for operation in (lambda s: s.list(), lambda s: s.exists("x"), lambda s: s.put(Path(__file__), "x")):
        with pytest.raises(StorageError, match=r"the credentials were refused \(.*\); check AWS_ACCESS_KEY_ID"):
            operation(open_store("s3://adjobs"))


@pytest.mark.parametrize("operation", [lambda s: s.list(), lambda s: s.exists("x"), lambda s: s.put(Path(__file__), "x")])
def test_s3_no_server_is_reported_within_seconds(monkeypatch: pytest.MonkeyPatch, operation) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    started_at = time.monotonic()
    with pytest.raises(StorageError, match=r"nothing listens at http://127.0.0.1:9; start it \('adjobs up'"):
        operation(open_store("s3://adjobs"))
    assert time.monotonic() - started_at < 10
