"""What of a working directory is uploaded, and its archive."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from adjobs.errors import QueueError
from adjobs.queue.packing import MAX_ARCHIVE, scan, write_archive


def write(root: Path, *names: str, content: bytes = b"x") -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def names(root: Path, named: tuple[Path, ...] = (), data: tuple[Path, ...] = ()) -> list[str]:
    return [file.name for file in scan(root, named, data, MAX_ARCHIVE).files]


def test_scan_leaves_out_caches_environments_builds_and_repositories(tmp_path):
    write(tmp_path, ".git/HEAD", "a/__pycache__/b.pyc", ".venv/x.py", "mine/pyvenv.cfg", "mine/lib.py", "build/x", "x.egg-info/y")
    write(tmp_path, "a/b.py", "c.yaml")
    assert names(tmp_path) == ["a/b.py", "c.yaml"]


def test_scan_ignore_files_of_each_folder_count_and_the_deepest_wins(tmp_path):
    write(tmp_path, "a.log", "sub/a.log", "sub/b.log", "sub/deep/c.txt", "top.txt", "sub/top.txt")
    (tmp_path / ".gitignore").write_text("*.log\n/top.txt\n")
    (tmp_path / "sub" / ".gitignore").write_text("!a.log\ndeep/\n")
    (tmp_path / ".adjobsignore").write_text(".gitignore\n.adjobsignore\n")
    assert names(tmp_path) == ["sub/a.log", "sub/top.txt"]


def test_scan_own_ignore_file_has_the_last_word(tmp_path):
    write(tmp_path, "kept.log", "build/needed.so", "ca.pem", "dropped.py")
    (tmp_path / ".gitignore").write_text("*.log\n")
    (tmp_path / ".adjobsignore").write_text("!kept.log\n!build/\n!ca.pem\ndropped.py\n.*ignore\n")
    result = scan(tmp_path, (), (), MAX_ARCHIVE)
    assert [file.name for file in result.files] == ["build/needed.so", "ca.pem", "kept.log"]
    assert result.secrets == ()


@pytest.mark.parametrize(
    "name", [".env", "prod.env", "tls/server.pem", "id_rsa", ".aws/credentials", "auth_token", "secrets.yaml"]
)
def test_scan_what_may_be_a_secret_is_left_out_and_named(tmp_path, name):
    write(tmp_path, name, "tokenizer.py", "id_rsa.pub", "keys.py", "environment.yaml")
    result = scan(tmp_path, (), (), MAX_ARCHIVE)
    assert [file.name for file in result.files] == ["environment.yaml", "id_rsa.pub", "keys.py", "tokenizer.py"]
    assert result.secrets == (name if "aws" not in name else ".aws",)


def test_scan_secret_that_git_ignores_is_no_news(tmp_path):
    write(tmp_path, ".env", "a.py")
    (tmp_path / ".gitignore").write_text(".env\n")
    assert scan(tmp_path, (), (), MAX_ARCHIVE).secrets == ()


def test_scan_leaves_out_the_data_but_takes_what_a_job_names(tmp_path):
    write(tmp_path, "data/good/0.png", "data/split.json", "weights/a.pth", "model/manifest.json", "job.yaml")
    (tmp_path / ".gitignore").write_text("weights\nmodel/\n.gitignore\n")
    named = (tmp_path / "data" / "split.json", tmp_path / "weights" / "a.pth", tmp_path / "model")
    expected = ["data/split.json", "job.yaml", "model/manifest.json", "weights/a.pth"]
    assert names(tmp_path, named, (tmp_path / "data",)) == expected


def test_scan_follows_links_inside_and_refuses_those_that_lead_out(tmp_path):
    root = tmp_path / "project"
    write(root, "a.py", content=b"inside")
    (root / "b.py").symlink_to("a.py")
    target = tmp_path / "archive.zip"
    write_archive(scan(root, (), (), MAX_ARCHIVE), target)
    with zipfile.ZipFile(target) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {"a.py": b"inside", "b.py": b"inside"}
    write(tmp_path, "outside.py")
    (root / "c.py").symlink_to("../outside.py")
    with pytest.raises(QueueError, match=r"c.py: links to .*outside.py, out of the working directory"):
        names(root)
    (root / ".adjobsignore").write_text("c.py\n")
    assert names(root) == [".adjobsignore", "a.py", "b.py"]


def test_scan_link_to_a_secret_or_to_the_data_is_left_out_and_one_to_a_folder_refused(tmp_path):
    root = tmp_path / "project"
    write(root, ".env", "a/b.py")
    write(tmp_path, "images/0.png")
    (root / "settings").symlink_to(".env")
    (root / "images").symlink_to("../images")
    result = scan(root, (), (tmp_path / "images",), MAX_ARCHIVE)
    assert ([file.name for file in result.files], result.secrets) == (["a/b.py"], (".env", "settings"))
    (root / "again").symlink_to("a")
    with pytest.raises(QueueError, match=r"again: links to .*, a folder;"):
        scan(root, (), (tmp_path / "images",), MAX_ARCHIVE)


def test_scan_two_sparse_gigabytes_are_one_line_that_names_the_largest(tmp_path):
    write(tmp_path, "a.py")
    with (tmp_path / "huge.bin").open("wb") as file:
        file.truncate(2 * 10**9)
    with pytest.raises(QueueError) as caught:
        scan(tmp_path, (), (), 100 * 10**6)
    assert "2.0 GB in 2 files, at most 100.0 MB are uploaded; the largest are huge.bin 2.0 GB, a.py 1 bytes" in str(caught.value)


@pytest.mark.parametrize(("name", "problem"), [("nowhere", "no such folder"), ("file", "is not a folder")])
def test_scan_what_is_no_folder_is_refused(tmp_path, name, problem):
    write(tmp_path, "file")
    with pytest.raises(QueueError, match=problem):
        scan(tmp_path / name, (), (), MAX_ARCHIVE)


def test_scan_name_that_is_not_utf8_is_refused(tmp_path):
    (tmp_path / os.fsdecode(b"\xff.py")).write_text("")
    with pytest.raises(QueueError, match="not valid UTF-8"):
        names(tmp_path)


def test_scan_ignore_file_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / ".gitignore").write_bytes(b"\xff\xfe")
    with pytest.raises(QueueError, match=r"\.gitignore: cannot be read as patterns"):
        names(tmp_path)


def test_write_archive_of_equal_folders_is_equal_whatever_their_times(tmp_path):
    digests = []
    for place in ("one", "two"):
        root = tmp_path / place
        for name in ("b/c.py", "a.py")[:: 1 if place == "one" else -1]:
            write(root, name, content=name.encode())
        os.utime(root / "a.py", (0, len(digests)))
        digests.append(write_archive(scan(root, (), (), MAX_ARCHIVE), tmp_path / f"{place}.zip"))
    assert digests[0] == digests[1]
    (tmp_path / "two" / "a.py").chmod(0o755)
    assert write_archive(scan(tmp_path / "two", (), (), MAX_ARCHIVE), tmp_path / "two.zip") != digests[0]


def test_write_archive_file_that_grew_meanwhile_is_refused(tmp_path):
    write(tmp_path / "root", "a.py")
    directory = scan(tmp_path / "root", (), (), MAX_ARCHIVE)
    write(tmp_path / "root", "a.py", content=b"more")
    with pytest.raises(QueueError, match="changed while it was read"):
        write_archive(directory, tmp_path / "a.zip")


def test_write_archive_that_is_too_large_is_refused(tmp_path, monkeypatch):
    write(tmp_path / "root", "a.py")
    monkeypatch.setattr("adjobs.queue.packing.MAX_ARCHIVE", 50)
    with pytest.raises(QueueError, match=r"\d+ bytes as an archive, at most 50 bytes are allowed; leave files out in"):
        write_archive(scan(tmp_path / "root", (), (), 50), tmp_path / "a.zip")
