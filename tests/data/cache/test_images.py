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

from adjobs.data.cache import build_once
from adjobs.data.cache import images as cache_module
from adjobs.data.cache.images import open_cache, remove_changed_caches
from adjobs.data.checks.preflight import without_invalid
from adjobs.data.dataset import Dataset
from adjobs.data.image_reading import ImageReading
from adjobs.data.images import RESIZE_RULE, load_rgb
from adjobs.data.labels.mask_values import MASK_RULE
from adjobs.data.labels.masks import read_mask, resize_labels
from adjobs.data.open import open_dataset
from adjobs.data.problem import Problem
from adjobs.errors import DataError, StorageError

FINGERPRINT = "0123456789abcdef" * 4

# Opens the cache in another process, which logs each decoded image and can be made to exit at the n-th.
BUILDER = """
import os, resource, sys, time
from pathlib import Path
from adjobs.data.cache import images
from adjobs.data.open import open_dataset
from adjobs.errors import StorageError
root, cache_root, log, exit_at, limit = sys.argv[1:]
if int(limit):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
decode = images.load_rgb
def load_rgb(path, size, reading):
    with open(log, "a") as file:
        file.write(path.name + "\\n")
    if 0 < int(exit_at) <= len(open(log).readlines()):  # several threads may have written before one of them counts
        os._exit(9)
    time.sleep(0.01)
    return decode(path, size, reading)
images.load_rgb = load_rgb
dataset = open_dataset(root, cache=Path("unused"))
try:
    print(images.open_cache(dataset, "0123456789abcdef" * 4, 16, Path(cache_root), progress=False).images.sum())
except StorageError as error:
    sys.exit(str(error))
"""


@pytest.fixture
def dataset(folder_root) -> Dataset:
    return open_dataset(str(folder_root), cache=Path("unused"))


@pytest.fixture
def decoded(monkeypatch) -> list[Path]:
    """Paths of the images decoded so far."""
    paths: list[Path] = []

    def load(path: Path, size: int, reading: ImageReading) -> np.ndarray:
        paths.append(path)
        return load_rgb(path, size, reading)

    monkeypatch.setattr(cache_module, "load_rgb", load)
    return paths


def start_builder(dataset: Dataset, cache_root: Path, *, exit_at: int = 0, limit: int = 0) -> subprocess.Popen[str]:
    log = str(cache_root.parent / "decoded.log")
    args = [sys.executable, "-c", BUILDER, str(dataset.root), str(cache_root), log, str(exit_at), str(limit)]
    return subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def folder_names(cache_root: Path) -> set[str]:
    return {path.name for path in (cache_root / "decoded").iterdir() if path.suffix != ".lock"}


def test_open_cache_has_every_image_and_mask(dataset, tmp_path):
    cache = open_cache(dataset, FINGERPRINT, 16, tmp_path)
    assert (cache.images.shape, cache.images.dtype) == ((30, 16, 16, 3), np.uint8)
    assert (cache.labels.shape, cache.labels.dtype) == ((10, 16, 16), np.uint8)
    for sample in dataset.samples:
        np.testing.assert_array_equal(cache.images[cache.index_of[sample.id]], load_rgb(sample.image, 16))
        assert (sample.id in cache.label_index_of) == (sample.mask is not None)
        if sample.mask:
            np.testing.assert_array_equal(
                cache.labels[cache.label_index_of[sample.id]], resize_labels(read_mask(sample.mask), 16)
            )
    assert folder_names(tmp_path) == {f"0123456789abcdef-16-{RESIZE_RULE}"}


def test_open_cache_arrays_are_read_only(dataset, tmp_path):
    cache = open_cache(dataset, FINGERPRINT, 16, tmp_path)
    for array in (cache.images, cache.labels):
        assert isinstance(array, np.memmap)
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_open_cache_again_decodes_nothing(dataset, tmp_path, decoded):
    first = open_cache(dataset, FINGERPRINT, 16, tmp_path)
    assert sorted(decoded) == sorted(sample.image for sample in dataset.samples)
    second = open_cache(dataset, FINGERPRINT, 16, tmp_path)
    fewer = open_cache(without_invalid(dataset, [Problem("good/000.png", "", "")]), FINGERPRINT, 16, tmp_path)
    assert len(decoded) == 30
    assert first.index_of == second.index_of == fewer.index_of
    np.testing.assert_array_equal(first.images, second.images)
    open_cache(dataset, FINGERPRINT, 8, tmp_path)
    open_cache(dataset, "f" * 64, 16, tmp_path)
    assert len(decoded) == 90


def test_open_cache_without_masks_has_no_labels(dataset, tmp_path):
    normal = Dataset(dataset.root, dataset.format, tuple(sample for sample in dataset.samples if sample.label == "normal"))
    cache = open_cache(normal, FINGERPRINT, 16, tmp_path)
    assert (cache.labels.shape, cache.label_index_of) == ((0, 16, 16), {})


def test_open_cache_two_processes_build_once(dataset, tmp_path):
    cache_root = tmp_path / "cache"
    processes = [start_builder(dataset, cache_root) for _ in range(2)]
    sums = {process.communicate(timeout=60)[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    assert len(sums) == 1
    assert len((tmp_path / "decoded.log").read_text().split()) == 30


def test_open_cache_waiting_logs_a_notice(dataset, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", "adjobs")
    monkeypatch.setattr(build_once, "_NOTICE_AFTER", 0.05)
    folder = tmp_path / "decoded" / f"0123456789abcdef-16-{RESIZE_RULE}"
    folder.parent.mkdir()
    locked = threading.Event()

    def hold() -> None:
        with build_once.FileLock(f"{folder}.lock"):
            locked.set()
            time.sleep(0.3)

    holder = threading.Thread(target=hold)
    holder.start()
    locked.wait()
    open_cache(dataset, FINGERPRINT, 16, tmp_path)
    holder.join()
    assert caplog.messages == ["waiting for another process that decodes the same images"]


def test_open_cache_after_a_crash_builds_again(dataset, tmp_path, decoded):
    cache_root = tmp_path / "cache"
    process = start_builder(dataset, cache_root, exit_at=20)
    process.communicate(timeout=60)
    assert process.returncode == 9
    assert folder_names(cache_root) == {f"0123456789abcdef-16-{RESIZE_RULE}.unfinished"}
    cache = open_cache(dataset, FINGERPRINT, 16, cache_root)
    assert len(decoded) == 30
    assert folder_names(cache_root) == {f"0123456789abcdef-16-{RESIZE_RULE}"}
    assert (cache.images.reshape(30, -1).max(axis=1) > 0).all()


@pytest.mark.parametrize("damage", ["short images", "few images", "no index", "broken index", "other samples", "no masks"])
def test_open_cache_damaged_cache_is_built_again(damage, dataset, tmp_path, decoded):
    open_cache(dataset, FINGERPRINT, 16, tmp_path)
    folder = tmp_path / "decoded" / f"0123456789abcdef-16-{RESIZE_RULE}"
    if damage == "short images":
        os.truncate(folder / "images.npy", 1000)
    elif damage == "few images":
        np.save(folder / "images.npy", np.zeros((29, 16, 16, 3), dtype=np.uint8))
    elif damage == "no index":
        (folder / "index.json").unlink()
    elif damage == "broken index":
        (folder / "index.json").write_text("[1")
    elif damage == "other samples":
        stored = json.loads((folder / "index.json").read_text())
        stored["images"][0] = "other.png"
        (folder / "index.json").write_text(json.dumps(stored))
    else:
        (folder / f"{MASK_RULE}.npy").unlink()
    cache = open_cache(dataset, FINGERPRINT, 16, tmp_path)
    assert len(decoded) == 60
    assert len(cache.images) == 30


def change_byte(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["images.npy", f"{MASK_RULE}.npy"])
def test_open_cache_changed_byte_is_decoded_again(name, dataset, tmp_path, decoded, caplog):
    first = np.array(open_cache(dataset, FINGERPRINT, 16, tmp_path).images)
    folder = tmp_path / "decoded" / f"0123456789abcdef-16-{RESIZE_RULE}"
    change_byte(folder / name, -1)
    np.testing.assert_array_equal(open_cache(dataset, FINGERPRINT, 16, tmp_path).images, first)
    assert len(decoded) == 60
    assert "decoded images have changed since they were written" in caplog.text


def test_open_cache_other_reading_is_another_cache(dataset, tmp_path, decoded):
    open_cache(dataset, FINGERPRINT, 16, tmp_path)
    open_cache(dataset, FINGERPRINT, 16, tmp_path, reading=ImageReading(white=4095))
    assert len(decoded) == 60
    assert len(folder_names(tmp_path)) == 2


def test_remove_changed_caches_compares_every_byte(dataset, tmp_path):
    for size in (8, 16):
        open_cache(dataset, FINGERPRINT, size, tmp_path)
    open_cache(dataset, "f" * 64, 8, tmp_path)
    assert remove_changed_caches(FINGERPRINT, tmp_path) == []
    folder = tmp_path / "decoded" / f"0123456789abcdef-16-{RESIZE_RULE}"
    derived = tmp_path / "derived" / folder.name
    derived.mkdir(parents=True)
    change_byte(folder / "images.npy", 9000)
    assert remove_changed_caches(FINGERPRINT, tmp_path) == [folder]
    assert not folder.exists()
    assert not derived.exists()
    assert remove_changed_caches(FINGERPRINT, tmp_path) == []
    assert len(folder_names(tmp_path)) == 2


def test_open_cache_undecodable_image_is_refused(dataset, tmp_path):
    (dataset.root / "good" / "005.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"good/005.png: is not a supported image; allowed are PNG"):
        open_cache(dataset, FINGERPRINT, 16, tmp_path)
    assert folder_names(tmp_path) == set()


def test_open_cache_full_disk_is_refused_before_decoding(dataset, tmp_path, monkeypatch, decoded):
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    message = (
        r"decoded: the decoded images cannot be written \(No space left on device\); 88 MiB are required; free some space or"
    )
    with pytest.raises(StorageError, match=message):
        open_cache(dataset, FINGERPRINT, 960, tmp_path)  # (30 * 3 + 10) * 960 * 960 bytes = 87.9 MiB
    assert decoded == []
    assert folder_names(tmp_path) == set()


def test_open_cache_disk_filled_while_decoding_is_refused(dataset, tmp_path, monkeypatch):
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StorageError, match=r"cannot be written \(No space left on device\)"):
        open_cache(dataset, FINGERPRINT, 16, tmp_path)
    assert folder_names(tmp_path) == set()


def test_open_cache_file_size_limit_is_refused_without_crash(dataset, tmp_path):
    process = start_builder(dataset, tmp_path / "cache", limit=10_000)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "the decoded images cannot be written (File too large); 0 MiB are required" in errors
    assert len(errors.splitlines()) == 1


def test_open_cache_unwritable_folder_is_refused(dataset, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        StorageError, match=r"cannot be written \(Not a directory\).*choose another cache folder \(ADJOBS_CACHE\)$"
    ):
        open_cache(dataset, FINGERPRINT, 16, tmp_path / "file")
