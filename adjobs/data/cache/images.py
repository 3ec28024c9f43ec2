"""Images decoded and resized once, into memory-mapped arrays that are shared by all processes of a machine."""

from __future__ import annotations

import json
import logging
import os
import shutil
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from adjobs.data.cache.build_once import flush, open_or_build
from adjobs.data.cache.checksums import is_intact
from adjobs.data.dataset import Dataset, Sample
from adjobs.data.image_reading import DEFAULT_READING, ImageReading
from adjobs.data.images import RESIZE_RULE, image_size, load_rgb
from adjobs.data.labels import masks
from adjobs.data.labels.mask_values import MASK_RULE
from adjobs.errors import StorageError, one_line
from adjobs.parallel import in_threads

log = logging.getLogger(__name__)

_IMAGES, _LABELS, _SAMPLE_IDS = "images.npy", f"{MASK_RULE}.npy", "index.json"
_ROWS_AT_OPEN = 32  # of each array, compared with their checksums each time a cache is opened
Item = TypeVar("Item")


@dataclass(frozen=True)
class ImageCache:
    """Decoded images; the arrays are read-only.

    Attributes:
        images: ``(N, size, size, 3)`` uint8.
        labels: ``(M, size, size)`` uint8 with the values of :mod:`adjobs.data.labels.masks`, for the samples with a mask,
            blocks or boxes (the most detailed of these).
        index_of: sample id to its index in ``images``.
        label_index_of: sample id to its index in ``labels``.
        derived_dir: folder for results that are computed from these images.
    """

    images: np.memmap
    labels: np.memmap
    index_of: dict[str, int]
    label_index_of: dict[str, int]
    derived_dir: Path


def open_cache(
    dataset: Dataset, fingerprint: str, size: int, root: Path, progress: bool = True, reading: ImageReading = DEFAULT_READING
) -> ImageCache:
    """Open the decoded images, decoding them first if necessary.

    Args:
        dataset: the data set.
        fingerprint: the data set's fingerprint, included in the cache's name.
        size: side of the square images, in pixels.
        root: folder of caches.
        progress: show a progress bar on a terminal's standard error.
        reading: how more than 8 bits become 8, included in the cache's name.

    Raises:
        DataError: an image cannot be decoded.
        StorageError: the cache cannot be written.
    """
    folder = root / "decoded" / f"{fingerprint[:16]}-{size}-{RESIZE_RULE}{reading.key}"
    try:
        return open_or_build(
            folder,
            lambda path: _open(path, dataset),
            lambda path: _build(path, dataset, size, reading, progress),
            doing="decodes the same images",
            progress=progress,
        )
    except OSError as error:
        reason = error.strerror or one_line(error)
        required = f"{_required_bytes(dataset, size) / 2**20:,.0f} MiB are required"
        raise StorageError(
            f"{folder.parent}: the decoded images cannot be written ({reason}); {required}; free some space or choose another "
            "cache folder (ADJOBS_CACHE)"
        ) from error


def remove_changed_caches(fingerprint: str, root: Path) -> list[Path]:
    """Compare all decoded images of a data set, and what was computed from them, with their checksums; remove what has changed.

    Args:
        fingerprint: of the data set.
        root: folder of caches.

    Returns:
        The folders that were removed. With decoded images goes what was computed from them. The next job makes them again.

    Raises:
        OSError: one cannot be removed.
    """
    removed = []
    for folder in sorted((root / "decoded").glob(f"{fingerprint[:16]}-*")):
        arrays = _read(folder) if folder.is_dir() and (folder / _SAMPLE_IDS).exists() else None
        if arrays is not None and _are_changed(arrays, rows=None):
            shutil.rmtree(folder)
            shutil.rmtree(_derived_dir(folder), ignore_errors=True)
            removed.append(folder)
        for derived in sorted(_derived_dir(folder).glob("*-*")):
            if derived.is_dir() and not derived.suffix and not is_intact(derived, whole=True):
                shutil.rmtree(derived)
                removed.append(derived)
    return removed


class _Arrays(NamedTuple):
    images: np.memmap
    labels: np.memmap
    image_ids: list[str]
    label_ids: list[str]
    image_checksums: list[int]
    label_checksums: list[int]


def _open(folder: Path, dataset: Dataset) -> ImageCache | None:
    """Map an existing cache; None if it is missing, damaged or lacks a sample and must be built again."""
    arrays = _read(folder)
    if arrays is None:
        return None
    index_of = {name: i for i, name in enumerate(arrays.image_ids)}
    label_index_of = {name: i for i, name in enumerate(arrays.label_ids)}
    if not all(s.id in index_of and (not _has_pixel_label(s) or s.id in label_index_of) for s in dataset.samples):
        return None
    if _are_changed(arrays, _ROWS_AT_OPEN):
        log.warning("%s: decoded images have changed since they were written; they are decoded again", folder)
        return None
    return ImageCache(arrays.images, arrays.labels, index_of, label_index_of, _derived_dir(folder))


def _read(folder: Path) -> _Arrays | None:
    """The arrays of a cache; None if it is missing or incomplete."""
    try:
        index = json.loads((folder / _SAMPLE_IDS).read_text(encoding="utf-8"))
        images = np.load(folder / _IMAGES, mmap_mode="r")
        labels = np.load(folder / _LABELS, mmap_mode="r")
        arrays = _Arrays(images, labels, index["images"], index["labels"], *index["checksums"])
        lengths = [len(images), len(arrays.image_ids), len(arrays.image_checksums)]
        label_lengths = [len(labels), len(arrays.label_ids), len(arrays.label_checksums)]
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None
    return arrays if len(set(lengths)) == len(set(label_lengths)) == 1 else None


def _are_changed(arrays: _Arrays, rows: int | None) -> bool:
    """Whether a row differs from its checksum, of so many rows spread over each array, or of all with None."""
    pairs = ((arrays.images, arrays.image_checksums), (arrays.labels, arrays.label_checksums))
    for values, checksums in pairs:
        count = len(values) if rows is None else min(rows, len(values))
        for i in np.unique(np.linspace(0, len(values) - 1, count, dtype=int)) if count else ():
            if zlib.crc32(values[i]) != checksums[i]:
                return True
    return False


def _derived_dir(folder: Path) -> Path:
    return folder.parent.with_name("derived") / folder.name


def _build(folder: Path, dataset: Dataset, size: int, reading: ImageReading, progress: bool) -> None:
    images = {sample.id: sample.image for sample in dataset.samples}
    labelled = {sample.id: sample for sample in dataset.samples if _has_pixel_label(sample)}
    image_checksums = _fill(
        folder / _IMAGES, images, (size, size, 3), np.dtype(np.uint8), lambda path: load_rgb(path, size, reading), progress
    )
    label_checksums = _fill(
        folder / _LABELS, labelled, (size, size), np.dtype(np.uint8), lambda sample: _pixel_labels(sample, size), progress
    )
    with (folder / _SAMPLE_IDS).open("w", encoding="utf-8") as file:
        checksums = [image_checksums, label_checksums]
        json.dump({"images": list(images), "labels": list(labelled), "checksums": checksums}, file)
        flush(file)


def _has_pixel_label(sample: Sample) -> bool:
    return sample.mask is not None or sample.blocks is not None or sample.boxes is not None


def _pixel_labels(sample: Sample, size: int) -> np.ndarray:
    """The most detailed pixel labels of a sample, ``(size, size)`` uint8."""
    if sample.mask is not None:
        return masks.resize_labels(masks.read_mask(sample.mask), size)
    if sample.blocks is not None:
        return masks.resize_labels(masks.read_blocks(sample.blocks), size)
    width, height = image_size(sample.image)
    scaled = [
        masks.Box(b.left * size / width, b.top * size / height, b.right * size / width, b.bottom * size / height)
        for b in sample.boxes or ()
    ]
    return np.where(masks.boxes_to_mask(scaled, (size, size)), masks.UNKNOWN, masks.NORMAL).astype(np.uint8)


def _fill(
    path: Path,
    sources: dict[str, Item],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    load: Callable[[Item], np.ndarray],
    progress: bool,
) -> list[int]:
    """Write an array file from several threads, one item each; returns the checksum of each.

    Written with ``pwrite``, not through a memory map: a full disk is then an error, instead of killing the process.
    """
    with path.open("wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (len(sources), *shape)}
        header_file = BytesIO()
        np.lib.format.write_array_header_1_0(header_file, header)
        file.write(header_file.getvalue())
        file.flush()
        start, item_bytes = len(header_file.getvalue()), int(np.prod(shape)) * dtype.itemsize
        if sources and hasattr(os, "posix_fallocate"):  # a full disk fails here, not after minutes of decoding
            os.posix_fallocate(file.fileno(), start, len(sources) * item_bytes)

        def write(item: tuple[int, Item]) -> int:
            i, source = item
            content = load(source).tobytes()
            remaining, offset = memoryview(content), start + i * item_bytes
            while remaining:
                written = os.pwrite(file.fileno(), remaining, offset)
                remaining, offset = remaining[written:], offset + written
            return zlib.crc32(content)

        checksums = in_threads(write, list(enumerate(sources.values())), text=f"decoding {path.stem}", progress=progress)
        flush(file)
        return checksums


def _required_bytes(dataset: Dataset, size: int) -> int:
    return size * size * sum(3 + _has_pixel_label(sample) for sample in dataset.samples)
