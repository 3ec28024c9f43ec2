"""Creating and adding, killed before or after each write, or with another writer in between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from adjobs.data.dataset import fingerprint
from adjobs.errors import StorageError
from adjobs.storage import LocalStore
from adjobs.versioning.dataset import VersionedDataset
from tests.helpers.datasets import open_folder
from tests.helpers.drawing import save
from tests.helpers.versioned import add, create, draw, numbered, open_set


class Killed(BaseException):
    """Stands for kill -9."""


class Writes:
    """Counts what is written to any store, and does something at one of the writes."""

    def __init__(self) -> None:
        self.count = 0
        self._at: int | None = None
        self._actions: tuple[Callable[[], object] | None, Callable[[], object] | None] = (None, None)

    def plan(self, at: int, *, before: Callable[[], object] | None = None, after: Callable[[], object] | None = None) -> None:
        """Do something before or after a write; their count starts again."""
        self.count, self._at, self._actions = 0, at, (before, after)

    def run(self, write: Callable[[], object]) -> object:
        number, self.count = self.count, self.count + 1
        if number != self._at:
            return write()
        (before, after), self._at = self._actions, None
        if before:
            before()
        result = write()
        if after:
            after()
        return result


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> Writes:
    counter = Writes()
    monkeypatch.setattr("adjobs.parallel.cores", lambda: 1)
    for name in ("put", "write", "create"):
        method = getattr(LocalStore, name)
        monkeypatch.setattr(LocalStore, name, lambda self, *args, method=method: counter.run(lambda: method(self, *args)))
    return counter


def kill() -> None:
    raise Killed


def digests(dataset: VersionedDataset) -> Counter[str]:
    return Counter(entry.digest for entry in dataset.samples())


def assert_whole(folder: Path) -> None:
    """Every version can be read, has no image twice, and is what its record says; no image ever moved or left."""
    dataset = open_set(folder)
    previous: dict[str, str | None] = {}
    for record in dataset.records():
        entries = dataset.samples(record.number)
        assert len(entries) == record.images == len({entry.digest for entry in entries})
        splits = {entry.id: entry.split for entry in entries}
        assert previous.items() <= splits.items()
        assert record.added == len(splits) - len(previous)
        previous = splits
    opened = open_folder(folder / "set")
    assert opened.problems == ()
    assert opened.version is not None
    assert fingerprint(opened) == opened.version.fingerprint


def add_writes(tmp_path: Path, writes: Writes, inbox: Path) -> int:
    create(tmp_path / "count")
    writes.plan(-1)
    add(tmp_path / "count", inbox)
    return writes.count


@pytest.mark.parametrize("is_before", [True, False], ids=["before", "after"])
def test_add_to_dataset_killed_at_any_write_is_completed_by_the_same_command(is_before, tmp_path, writes):
    inbox = draw(tmp_path / "inbox", "good/a.png good/b.png scratch/c.png d.png")
    save(inbox / "masks" / "scratch" / "c.png", np.eye(32, dtype=bool))
    count = add_writes(tmp_path, writes, inbox)
    expected = open_set(tmp_path / "count").latest()
    assert expected is not None
    assert count == 8  # five files, descriptors, list, record
    for at in range(count):
        folder = tmp_path / str(at)
        create(folder)
        writes.plan(at, before=kill if is_before else None, after=None if is_before else kill)
        with pytest.raises(Killed):
            add(folder, inbox)
        assert open_set(folder).latest() is None or (at, is_before) == (count - 1, False)
        writes.plan(-1)
        add(folder, inbox)
        assert writes.count <= max(3, count - at)  # nothing is copied again
        (record,) = open_set(folder).records()
        assert (record.manifest, record.fingerprint) == (expected.manifest, expected.fingerprint)
        assert_whole(folder)


def test_add_to_dataset_storage_fails_at_any_write_leaves_the_version_before(tmp_path, writes):
    first, inbox = draw(tmp_path / "first", "good/a.png"), draw(tmp_path / "inbox", "good/b.png scratch/c.png", seed=1)

    def fail() -> None:
        raise StorageError("cannot store x: No space left on device")

    for at in range(5):
        folder = tmp_path / str(at)
        create(folder)
        add(folder, first)
        writes.plan(at, before=fail)
        with pytest.raises(StorageError, match="No space left"):
            add(folder, inbox)
        assert [record.number for record in open_set(folder).records()] == [1]
        assert_whole(folder)
        assert add(folder, inbox).added == 2
        assert_whole(folder)


def test_add_to_dataset_two_at_once_lose_and_double_nothing(tmp_path, writes):
    first = draw(tmp_path / "a", "good/a.png scratch/b.png both.png")
    second = draw(tmp_path / "b", "good/c.png scratch/d.png", seed=1)
    (second / "both.png").write_bytes((first / "both.png").read_bytes())
    count = add_writes(tmp_path, writes, first)
    for at in range(count):
        for other, images in ((second, 5), (first, 3)):
            folder = tmp_path / f"{at}-{images}"
            create(folder)
            writes.plan(at, before=lambda folder=folder, other=other: add(folder, other))
            result = add(folder, first)
            assert set(digests(open_set(folder)).values()) == {1}
            assert len(digests(open_set(folder))) == images
            assert result.added + result.duplicates == 3
            assert (result.version is None) == (other == first)
            assert_whole(folder)


@pytest.mark.parametrize("is_before", [True, False], ids=["before", "after"])
def test_create_dataset_killed_at_any_write_is_completed_by_the_same_command(is_before, tmp_path, writes):
    source = draw(tmp_path / "source", numbered("good/{}.png", 5))
    writes.plan(-1)
    expected = create(tmp_path / "count", source).version
    count = writes.count
    assert expected is not None
    assert count == 9  # header, five files, descriptors, list, record
    for at in range(count):
        folder = tmp_path / str(at)
        writes.plan(at, before=kill if is_before else None, after=None if is_before else kill)
        with pytest.raises(Killed):
            create(folder, source)
        result = create(folder, source)
        assert result.version is not None
        assert (result.version.number, result.version.manifest) == (1, expected.manifest)
        assert_whole(folder)


def test_create_dataset_two_at_once_make_one(tmp_path, writes):
    source = draw(tmp_path / "source", numbered("good/{}.png", 5))
    for at in range(9):
        folder = tmp_path / str(at)
        writes.plan(at, before=lambda folder=folder: create(folder, source))
        result = create(folder, source)
        assert not result.is_new
        assert [record.number for record in open_set(folder).records()] == [1]
        assert_whole(folder)
