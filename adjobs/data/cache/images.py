"""Images decoded and resized once, into memory-mapped arrays that all processes of a machine share."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from adjobs.data.cache.build_once import flush, open_or_build
from adjobs.data.dataset import Dataset, Sample
from adjobs.data.images import RESIZE_RULE, image_size, load_rgb
from adjobs.data.labels import masks
from adjobs.errors import StorageError, one_line
from adjobs.parallel import in_threads

_IMAGES, _LABELS, _INDEX = "images.npy", "labels.npy", "index.json"
Item = TypeVar("Item")


@dataclass(frozen=True)
class ImageCache:
    """Decoded images; the arrays are read-only.

    Attributes:
        images: ``(N, size, size, 3)`` uint8.
        labels: ``(M, size, size)`` uint8 of :mod:`adjobs.data.labels.masks`, of the samples with a mask, blocks
            or boxes (the most detailed).
        index_of: sample id to its index in ``images``.
        label_index_of: sample id to its index in ``labels``.
        derived: folder for what is computed from these images once.
    """

    images: np.memmap
    labels: np.memmap
    index_of: dict[str, int]
    label_index_of: dict[str, int]
    derived: Path


def open_cache(index: Dataset, fingerprint: str, size: int, root: Path, progress: bool = True) -> ImageCache:
    """Open the decoded images, after decoding them if nobody has yet.

    Args:
        index: the data set.
        fingerprint: its fingerprint; names the cache.
        size: side of the square images in pixels.
        root: folder of caches.
        progress: show a progress bar on a terminal's standard error.

    Raises:
        DataError: an image cannot be decoded.
        StorageError: the cache cannot be written.
    """
    folder = root / "decoded" / f"{fingerprint[:16]}-{size}-{RESIZE_RULE}"
    try:
        return open_or_build(
            folder,
            lambda place: _open(place, index),
            lambda place: _build(place, index, size, progress),
            doing="decodes the same images",
            progress=progress,
        )
    except OSError as error:
        got = f"the decoded images cannot be written ({error.strerror or one_line(error)})"
        need = f"{_bytes_needed(index, size) / 2**20:,.0f} MiB are needed"
        raise StorageError(
            f"{folder.parent}: {got}; {need}; free space there or choose another cache folder (ADJOBS_CACHE)"
        ) from error


def _open(folder: Path, index: Dataset) -> ImageCache | None:
    """Map an existing cache; None if there is none, or it is damaged or lacks a sample and must be built again."""
    try:
        stored = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        images = np.load(folder / _IMAGES, mmap_mode="r")
        drawn = np.load(folder / _LABELS, mmap_mode="r")
        row = {name: i for i, name in enumerate(stored["images"])}
        label_row = {name: i for i, name in enumerate(stored["labels"])}
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None
    complete = len(images) == len(row) and len(drawn) == len(label_row)
    wanted = all(s.id in row and (not _labelled(s) or s.id in label_row) for s in index.samples)
    derived = folder.parent.with_name("derived") / folder.name
    return ImageCache(images, drawn, row, label_row, derived) if complete and wanted else None


def _build(folder: Path, index: Dataset, size: int, progress: bool) -> None:
    images = {s.id: s.image for s in index.samples}
    labelled = {s.id: s for s in index.samples if _labelled(s)}
    _fill(folder / _IMAGES, images, (size, size, 3), np.dtype(np.uint8), lambda path: load_rgb(path, size), progress)
    _fill(folder / _LABELS, labelled, (size, size), np.dtype(np.uint8), lambda sample: _pixel_labels(sample, size), progress)
    with (folder / _INDEX).open("w", encoding="utf-8") as file:
        json.dump({"images": list(images), "labels": list(labelled)}, file)
        flush(file)


def _labelled(sample: Sample) -> bool:
    return sample.mask is not None or sample.blocks is not None or sample.boxes is not None


def _pixel_labels(sample: Sample, size: int) -> np.ndarray:
    """The most detailed label of a sample for each pixel, ``(size, size)`` uint8."""
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
) -> None:
    """Write an array file, row by row from threads.

    Written with ``pwrite``, not through a memory map: on a full disk that is an error, where a map kills the process.
    """
    with path.open("wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (len(sources), *shape)}
        np.lib.format.write_array_header_1_0(file, header)
        file.flush()
        start, row_bytes = file.tell(), int(np.prod(shape)) * dtype.itemsize
        if sources and hasattr(os, "posix_fallocate"):  # a full disk shows now and not after the decoding
            os.posix_fallocate(file.fileno(), start, len(sources) * row_bytes)

        def write(item: tuple[int, Item]) -> None:
            row, source = item
            rest, offset = memoryview(load(source).tobytes()), start + row * row_bytes
            while rest:
                written = os.pwrite(file.fileno(), rest, offset)
                rest, offset = rest[written:], offset + written

        in_threads(write, list(enumerate(sources.values())), text=f"decoding {path.stem}", progress=progress)
        flush(file)


def _bytes_needed(index: Dataset, size: int) -> int:
    return size * size * sum(3 + _labelled(sample) for sample in index.samples)
