from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from adjobs.data.cache import build_once, open_cache
from adjobs.data.cache import images as cache_module
from adjobs.data.checks.preflight import without_invalid
from adjobs.data.checks.problem import Problem
from adjobs.data.dataset import Dataset
from adjobs.data.images import RESIZE_RULE, load_rgb
from adjobs.data.labels.masks import read_mask, resize_labels
from adjobs.data.open import open_dataset
from adjobs.errors import DataError, StorageError

PRINT = "0123456789abcdef" * 4

# Opens the cache in another process, which writes a line for each decoded image and can be made to die at the n-th.
BUILDER = """
import os, resource, sys, time
from pathlib import Path
from adjobs.data import cache
from adjobs.data.open import open_index
root, place, log, die_at, limit = sys.argv[1:]
if int(limit):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
real = cache.load_rgb
def load_rgb(path, size):
    with open(log, "a") as file:
        file.write(path.name + "\\n")
    if len(open(log).readlines()) == int(die_at):
        os._exit(9)
    time.sleep(0.01)
    return real(path, size)
cache.load_rgb = load_rgb
index = open_index(root, cache=Path("unused"))
try:
    print(cache.open_cache(index, "0123456789abcdef" * 4, 16, Path(place), progress=False).images.sum())
except cache.StorageError as error:
    sys.exit(str(error))
"""


@pytest.fixture
def index(folder_root) -> Dataset:
    return open_dataset(str(folder_root), cache=Path("unused"))


@pytest.fixture
def decoded(monkeypatch) -> list[Path]:
    """Paths of the images decoded so far."""
    paths: list[Path] = []

    def load(path: Path, size: int) -> np.ndarray:
        paths.append(path)
        return load_rgb(path, size)

    monkeypatch.setattr(cache_module, "load_rgb", load)
    return paths


def builder(index: Dataset, place: Path, *, die_at: int = 0, limit: int = 0) -> subprocess.Popen[str]:
    log = str(place.parent / "decoded.log")
    args = [sys.executable, "-c", BUILDER, str(index.root), str(place), log, str(die_at), str(limit)]
    return subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def names(place: Path) -> set[str]:
    return {path.name for path in (place / "decoded").iterdir() if path.suffix != ".lock"}


def test_holds_every_image_and_mask(index, tmp_path):
    cache = open_cache(index, PRINT, 16, tmp_path)
    assert (cache.images.shape, cache.images.dtype) == ((30, 16, 16, 3), np.uint8)
    assert (cache.labels.shape, cache.labels.dtype) == ((10, 16, 16), np.uint8)
    for sample in index.samples:
        np.testing.assert_array_equal(cache.images[cache.index_of[sample.id]], load_rgb(sample.image, 16))
        assert (sample.id in cache.label_index_of) == (sample.mask is not None)
        if sample.mask:
            np.testing.assert_array_equal(
                cache.labels[cache.label_index_of[sample.id]], resize_labels(read_mask(sample.mask), 16)
            )
    assert names(tmp_path) == {f"0123456789abcdef-16-{RESIZE_RULE}"}


def test_is_read_only(index, tmp_path):
    cache = open_cache(index, PRINT, 16, tmp_path)
    for array in (cache.images, cache.labels):
        assert isinstance(array, np.memmap)
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_decodes_once(index, tmp_path, decoded):
    first = open_cache(index, PRINT, 16, tmp_path)
    assert sorted(decoded) == sorted(sample.image for sample in index.samples)
    second = open_cache(index, PRINT, 16, tmp_path)
    fewer = open_cache(without_invalid(index, [Problem("good/000.png", "", "")]), PRINT, 16, tmp_path)
    assert len(decoded) == 30
    assert first.index_of == second.index_of == fewer.index_of
    np.testing.assert_array_equal(first.images, second.images)
    open_cache(index, PRINT, 8, tmp_path)
    open_cache(index, "f" * 64, 16, tmp_path)
    assert len(decoded) == 90


def test_without_masks(index, tmp_path):
    plain = Dataset(index.root, index.format, tuple(sample for sample in index.samples if sample.label == "normal"))
    cache = open_cache(plain, PRINT, 16, tmp_path)
    assert (cache.labels.shape, cache.label_index_of) == ((0, 16, 16), {})


def test_two_processes_build_once(index, tmp_path):
    place = tmp_path / "cache"
    both = [builder(index, place) for _ in range(2)]
    sums = {process.communicate(timeout=60)[0] for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert len(sums) == 1
    assert len((tmp_path / "decoded.log").read_text().split()) == 30


def test_waiting_for_another_process_is_said(index, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(build_once, "_PATIENCE", 0.05)
    folder = tmp_path / "decoded" / f"0123456789abcdef-16-{RESIZE_RULE}"
    folder.parent.mkdir()
    taken = threading.Event()

    def hold() -> None:
        with build_once.FileLock(f"{folder}.lock"):
            taken.set()
            time.sleep(0.3)

    holder = threading.Thread(target=hold)
    holder.start()
    taken.wait()
    open_cache(index, PRINT, 16, tmp_path)
    holder.join()
    assert capsys.readouterr().err == "waiting for another process that decodes the same images\n"


def test_a_crash_leaves_nothing_in_use(index, tmp_path, decoded):
    place = tmp_path / "cache"
    process = builder(index, place, die_at=20)
    process.communicate(timeout=60)
    assert process.returncode == 9
    assert names(place) == {f"0123456789abcdef-16-{RESIZE_RULE}.unfinished"}
    cache = open_cache(index, PRINT, 16, place)
    assert len(decoded) == 30
    assert names(place) == {f"0123456789abcdef-16-{RESIZE_RULE}"}
    assert (cache.images.reshape(30, -1).max(axis=1) > 0).all()


@pytest.mark.parametrize("damage", ["short images", "few images", "no index", "broken index", "index of others", "no masks"])
def test_a_damaged_cache_is_built_again(damage, index, tmp_path, decoded):
    open_cache(index, PRINT, 16, tmp_path)
    folder = tmp_path / "decoded" / f"0123456789abcdef-16-{RESIZE_RULE}"
    if damage == "short images":
        os.truncate(folder / "images.npy", 1000)
    elif damage == "few images":
        np.save(folder / "images.npy", np.zeros((29, 16, 16, 3), dtype=np.uint8))
    elif damage == "no index":
        (folder / "index.json").unlink()
    elif damage == "broken index":
        (folder / "index.json").write_text("[1")
    elif damage == "index of others":
        stored = json.loads((folder / "index.json").read_text())
        stored["images"][0] = "other.png"
        (folder / "index.json").write_text(json.dumps(stored))
    else:
        (folder / "labels.npy").unlink()
    cache = open_cache(index, PRINT, 16, tmp_path)
    assert len(decoded) == 60
    assert len(cache.images) == 30


def test_an_image_that_cannot_be_decoded(index, tmp_path):
    (index.root / "good" / "005.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"good/005.png: is no image; allowed are PNG"):
        open_cache(index, PRINT, 16, tmp_path)
    assert names(tmp_path) == set()


def test_a_full_disk_before_decoding(index, tmp_path, monkeypatch, decoded):
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    message = r"decoded: the decoded images cannot be written \(No space left on device\); 88 MiB are needed; free space there or"
    with pytest.raises(StorageError, match=message):
        open_cache(index, PRINT, 960, tmp_path)  # (30 * 3 + 10) * 960 * 960 bytes = 87.9 MiB
    assert decoded == []
    assert names(tmp_path) == set()


def test_a_full_disk_while_decoding(index, tmp_path, monkeypatch):
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StorageError, match=r"cannot be written \(No space left on device\)"):
        open_cache(index, PRINT, 16, tmp_path)
    assert names(tmp_path) == set()


def test_a_file_size_limit_is_an_error_and_no_crash(index, tmp_path):
    process = builder(index, tmp_path / "cache", limit=10_000)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "the decoded images cannot be written (File too large); 0 MiB are needed" in errors
    assert len(errors.splitlines()) == 1


def test_a_place_that_cannot_be_written(index, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        StorageError, match=r"cannot be written \(Not a directory\).*choose another cache folder \(ADJOBS_CACHE\)$"
    ):
        open_cache(index, PRINT, 16, tmp_path / "file")
