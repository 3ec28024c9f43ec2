"""The store: a local folder, and S3 as SeaweedFS speaks it."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from adjobs.errors import StorageError
from adjobs.storage import Entry, S3Store, check_key, fetch, open_store, put_tree

BAD_KEYS = ["../x", "a/../../x", "/etc/x", "a//x", "a\\..\\x", "\\\\host\\x", "./x", "a/./x", "..", ""]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# Addresses


@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_key_that_leaves_the_folder_is_refused_by_name(key: str) -> None:
    with pytest.raises(StorageError) as caught:
        check_key(key)
    assert repr(key) in str(caught.value)


@pytest.mark.parametrize("uri", ["http://host/x", "gs://bucket", "s3://", "s3:///x", "file://host/x"])
def test_an_address_of_another_kind_is_refused_with_the_allowed_ones(uri: str) -> None:
    with pytest.raises(StorageError, match=r"have file, s3.*s3://bucket/prefix"):
        open_store(uri)


def test_addresses(tmp_path: Path) -> None:
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


def test_what_was_put_comes_back(uri: str, tmp_path: Path) -> None:
    store = open_store(uri)
    local = tmp_path / "local.bin"
    local.write_bytes(os.urandom(9_000_000))  # boto3 sends it in parts

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


def test_a_prefix_is_a_folder_or_a_key_and_no_beginning_of_a_name(uri: str) -> None:
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


def test_the_tag_changes_with_the_content(uri: str) -> None:
    store = open_store(uri)
    store.write("a", b"1")
    before = store.list()
    time.sleep(0.01)
    store.write("a", b"2")
    assert store.list() != before


def test_a_missing_object_is_named(uri: str, tmp_path: Path) -> None:
    store = open_store(uri)
    store.write("there", b"x")
    for ask in (lambda: store.read("not/there"), lambda: store.get("not/there", tmp_path / "out")):
        with pytest.raises(StorageError, match=rf"cannot read .*{tmp_path.name}.*not/there.*(no such object|No such file)"):
            ask()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("key", ["../x", "a//x", "/x"])
def test_no_method_takes_a_key_that_leaves_the_store(uri: str, tmp_path: Path, key: str) -> None:
    store = open_store(uri)
    for ask in (store.read, store.exists, store.delete, lambda key: store.write(key, b"x"), lambda key: store.put(tmp_path, key)):
        with pytest.raises(StorageError, match="is refused"):
            ask(key)


def test_a_tree_is_put_whole(uri: str, folder_root: Path) -> None:
    store = open_store(uri)
    count = put_tree(store, folder_root, "data/")
    names = sorted(path.relative_to(folder_root).as_posix() for path in folder_root.rglob("*") if path.is_file())
    assert count == len(names) > 10
    assert [entry.key for entry in store.list()] == [f"data/{name}" for name in names]
    with pytest.raises(StorageError, match="no such folder"):
        put_tree(store, folder_root / "missing", "x")


# A folder


def test_a_local_address_is_not_copied(folder_root: Path, tmp_path: Path) -> None:
    assert fetch(str(folder_root), tmp_path / "cache") == folder_root
    assert fetch(f"file://{folder_root}", tmp_path / "cache") == folder_root
    assert not (tmp_path / "cache").exists()


def test_what_the_disk_refuses_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match=r"cannot store .*file/a: (Not a directory|File exists); check the path"):
        open_store(tmp_path).write("file/a", b"x")


# Fetching, with a listing that no server would give


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys that the listing names and that can be downloaded, with their own name as content."""
    keys: list[str] = []

    def download(_: S3Store, key: str, local: Path) -> str:
        local.parent.mkdir(parents=True, exist_ok=True)
        local.write_text(key)
        return "tag"

    monkeypatch.setattr(S3Store, "list", lambda _: [Entry(key, len(key), "tag") for key in keys])
    monkeypatch.setattr(S3Store, "download", download)
    return keys


@pytest.mark.parametrize("key", [key for key in BAD_KEYS if key])
def test_nothing_is_written_when_a_listed_key_would_leave_the_cache(listed: list[str], tmp_path: Path, key: str) -> None:
    listed += ["good", key]
    with pytest.raises(StorageError) as caught:
        fetch("s3://bucket/data", tmp_path / "cache")
    assert repr(key) in str(caught.value)
    assert {path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()} <= {"lock"}


def test_a_key_cannot_be_a_file_and_a_folder(listed: list[str], tmp_path: Path) -> None:
    listed += ["a/b", "a/b/c"]
    with pytest.raises(StorageError, match=r"'a/b/c' is refused: 'a/b' is there"):
        fetch("s3://bucket/data", tmp_path)


def test_a_file_may_become_a_folder_and_a_folder_a_file(listed: list[str], tmp_path: Path) -> None:
    for keys in (["a", "b/c"], ["a/b", "b"], ["a", "b/c"]):
        listed[:] = keys
        folder = fetch("s3://bucket/data", tmp_path)
        assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()) == keys


# S3


@pytest.fixture(scope="session")
def s3_environment() -> Iterator[dict[str, str]]:
    """``AWS_*`` variables of a running S3."""
    from adjobs.stack import components, credentials, processes
    from adjobs.stack.config import Site, client_environment
    from tests.integration.conftest import free_port_base

    with tempfile.TemporaryDirectory(prefix="adjobs-") as folder:
        home = Path(folder)
        site = Site("test-artifacts", home, free_port_base(), None, credentials.load(home / "credentials"))
        service = components.s3(site)
        process = processes.start(service.command, service.environment, service.folder, home / "s3.log")
        try:
            processes.wait_until(service.ready, process, "S3", home / "s3.log", 60)
            yield {name: value for name, value in client_environment(site).items() if name.startswith("AWS_")}
        finally:
            processes.stop(processes.of_stack(site.stack_id), 15)
            components.delete_sockets(site.port_base)


@pytest.fixture
def server(s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3_environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys in the order in which they are downloaded."""
    keys: list[str] = []
    download = S3Store.download

    def note(self: S3Store, key: str, local: Path) -> str:
        keys.append(key)
        return download(self, key, local)

    monkeypatch.setattr(S3Store, "download", note)
    return keys


@pytest.mark.slow
def test_only_what_changed_is_fetched_again(server: None, downloads: list[str], tmp_path: Path) -> None:
    uri = f"s3://adjobs/{tmp_path.name}/data"
    store = open_store(uri)
    for key in ("good/1.png", "good/2.png", "bad/1.png"):
        store.write(key, key.encode())

    folder = fetch(uri, tmp_path / "cache")
    assert sorted(downloads) == ["bad/1.png", "good/1.png", "good/2.png"]
    assert (folder / "bad/1.png").read_text() == "bad/1.png"

    downloads.clear()
    assert fetch(uri + "/", tmp_path / "cache") == folder
    assert downloads == []

    store.write("good/1.png", b"good/X.png")  # as long as before
    (folder / "good/2.png").write_bytes(b"damaged")
    (folder / "left over").write_bytes(b"x")
    store.delete("bad")
    fetch(uri, tmp_path / "cache")
    assert sorted(downloads) == ["good/1.png", "good/2.png"]
    assert (folder / "good/1.png").read_text() == "good/X.png"
    assert sorted(path.name for path in folder.rglob("*")) == ["1.png", "2.png", "good"]


@pytest.mark.slow
def test_who_fetches_at_the_same_time_fetches_once(server: None, downloads: list[str], tmp_path: Path) -> None:
    uri = f"s3://adjobs/{tmp_path.name}/data"
    for i in range(8):
        open_store(uri).write(f"{i}.png", b"x")
    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(lambda _: fetch(uri, tmp_path / "cache"), range(4)))
    assert len(folders) == 1
    assert len(downloads) == 8


@pytest.mark.slow
def test_folder_marks_are_no_files(server: None, tmp_path: Path) -> None:
    store = S3Store("adjobs", tmp_path.name)
    store.write("data/a", b"x")
    store._client.put_object(Bucket="adjobs", Key=f"{tmp_path.name}/data/mark/", Body=b"")
    assert [entry.key for entry in store.list()] == ["data/a"]
    assert [path.name for path in fetch(store.uri("data"), tmp_path).iterdir()] == ["a"]


@pytest.mark.slow
def test_what_the_server_refuses_says_what_to_do(server: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    with pytest.raises(StorageError, match=rf"nothing under s3://adjobs/none at {endpoint}; check the address"):
        fetch("s3://adjobs/none", tmp_path)
    for ask in (lambda s: s.list(), lambda s: s.exists("x"), lambda s: s.read("x"), lambda s: s.write("x", b"")):
        with pytest.raises(StorageError, match=rf"s3://no-bucket.* at {endpoint}: there is no such bucket"):
            ask(open_store("s3://no-bucket"))

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    for ask in (lambda s: s.list(), lambda s: s.exists("x"), lambda s: s.put(Path(__file__), "x")):
        with pytest.raises(StorageError, match=r"the credentials were refused \(.*\); check AWS_ACCESS_KEY_ID"):
            ask(open_store("s3://adjobs"))


@pytest.mark.parametrize("ask", [lambda s: s.list(), lambda s: s.exists("x"), lambda s: s.put(Path(__file__), "x")])
def test_nothing_listening_is_said_soon(monkeypatch: pytest.MonkeyPatch, ask) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    begin = time.monotonic()
    with pytest.raises(StorageError, match=r"nothing listens at http://127.0.0.1:9; start it \('adjobs up'"):
        ask(open_store("s3://adjobs"))
    assert time.monotonic() - begin < 10
