"""One cache folder for several users: a folder of their group with the setgid bit."""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from adjobs.data.cache.images import open_cache
from adjobs.errors import StorageError
from adjobs.jobs.data import prepare_data
from tests.helpers.datasets import open_folder
from tests.helpers.drawing import draw_folder
from tests.helpers.jobs import local_settings, resolved_job

FINGERPRINT = "0123456789abcdef" * 4
GROUP, USERS = 54_321, (54_001, 54_002)

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can become two other users")


class Shared(NamedTuple):
    """Folders that every user may enter: images, which all may read, and a cache of the group."""

    images: Path
    cache: Path

    def open(self, size: int = 16) -> str:
        """Open the decoded images; a digest of all of them."""
        cache = open_cache(open_folder(self.images), FINGERPRINT, size, self.cache, progress=False)
        return str(hash(cache.images.tobytes()))

    def inodes(self) -> dict[Path, int]:
        return {path: path.stat().st_ino for path in sorted(self.cache.rglob("*")) if path.suffix != ".lock"}


@pytest.fixture
def shared() -> Iterator[Shared]:
    root = Path(tempfile.mkdtemp())  # pytest's own folders are closed to other users
    root.chmod(0o755)
    images = draw_folder(root / "images", 12, 6, 32)
    (root / "cache").mkdir()
    if os.getuid() == 0:
        os.chown(root / "cache", 0, GROUP)
        (root / "cache").chmod(0o2775)
    open_cache(open_folder(images), FINGERPRINT, 16, root / "own", progress=False)  # imports what users may not read
    yield Shared(images, root / "cache")
    shutil.rmtree(root)


def as_user(user: int, umask: int, work: Callable[[], str]) -> str:
    """The result of a function that a process of this user and the group computes, or the last line of its error."""
    source, sink = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12 about threads of the test runner
        child = os.fork()
    if child == 0:
        try:
            os.umask(umask)
            os.setgroups([GROUP])
            os.setgid(GROUP)
            os.setuid(user)
            answer = work()
        except BaseException:
            answer = traceback.format_exc().strip().splitlines()[-1]
        os.write(sink, answer.encode())
        os._exit(0)
    os.close(sink)
    with os.fdopen(source, encoding="utf-8") as answers:
        text = answers.read()
    os.waitpid(child, 0)
    return text


@needs_root
def test_open_cache_two_users_with_umask_002_share_what_either_has_decoded(shared):
    first = as_user(USERS[0], 0o002, shared.open)
    assert first.lstrip("-").isdigit(), first
    before = shared.inodes()
    assert {path.stat().st_uid for path in before if path.is_file()} == {USERS[0]}
    assert {path.stat().st_gid for path in before} == {GROUP}
    assert as_user(USERS[1], 0o002, shared.open) == first
    assert shared.inodes() == before
    other_size = as_user(USERS[1], 0o002, lambda: shared.open(32))
    assert as_user(USERS[0], 0o002, lambda: shared.open(32)) == other_size
    assert len({path.stat().st_uid for path in shared.inodes()}) == 2


@needs_root
def test_open_cache_of_another_user_that_was_damaged_is_decoded_again(shared):
    first = as_user(USERS[0], 0o002, shared.open)
    (file,) = shared.cache.rglob("images.npy")
    file.write_bytes(file.read_bytes()[:100])
    assert as_user(USERS[1], 0o002, shared.open) == first
    (file,) = shared.cache.rglob("images.npy")
    assert file.stat().st_uid == USERS[1]
    assert as_user(USERS[0], 0o002, shared.open) == first


@needs_root
def test_open_cache_of_a_user_with_umask_022_is_read_and_others_are_refused_in_one_line(shared):
    first = as_user(USERS[0], 0o022, shared.open)
    before = shared.inodes()
    assert as_user(USERS[1], 0o022, shared.open) == first
    assert shared.inodes() == before
    refused = as_user(USERS[1], 0o022, lambda: shared.open(32))
    assert "decoded images cannot be written (Permission denied)" in refused
    assert "choose another cache folder (ADJOBS_CACHE)" in refused


@needs_root
@pytest.mark.parametrize(("umask", "owners"), [(0o002, set(USERS)), (0o022, {USERS[0]})])
def test_prepare_data_answers_of_another_user_are_used_and_what_cannot_be_stored_stops_nothing(umask, owners, shared):
    settings = dataclasses.replace(local_settings(shared.images.parent), cache=shared.cache)

    def prepare(seed: int) -> str:
        return prepare_data(resolved_job(shared.images, seed=seed), settings).fingerprint

    prepare(0)  # imports what users may not read
    shutil.rmtree(shared.cache / "checked")
    first = as_user(USERS[0], umask, lambda: prepare(0))
    (answer,) = (shared.cache / "checked").iterdir()
    before = answer.stat()
    assert as_user(USERS[1], umask, lambda: prepare(0)) == as_user(USERS[1], umask, lambda: prepare(1)) == first
    assert (answer.stat().st_ino, answer.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert {path.stat().st_uid for path in (shared.cache / "checked").iterdir()} == owners


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_open_cache_that_may_only_be_read_is_used_as_it_is(shared):
    first = shared.open()
    folders = [shared.cache, *(path for path in shared.cache.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        assert shared.open() == first
        with pytest.raises(StorageError, match=r"cannot be written \(Permission denied\)"):
            shared.open(32)
    finally:
        for folder in folders:
            folder.chmod(0o755)
