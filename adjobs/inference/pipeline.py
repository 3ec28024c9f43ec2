"""Many image files through a detector: reading, network and what is done with the predictions go on at the same time.

One file after the other leaves cores idle: reading, drawing and compressing take one thread, and for CDO at 256 px as long as the
network. Pillow, NumPy, zlib and PyTorch release Python's lock, so threads are enough.

The threads of PyTorch, which share the work of each operator, wait for each other actively after each, and get slower by a
multiple when other threads want the same cores. So on a CPU a network is best run with one thread, and several batches at a time:
see :meth:`adjobs.inference.detector.Detector.throughput_mode`, which is for the process to choose, as it holds for all of it.

Objects of S3 are fetched by more threads than there are cores, since these only wait, and into memory.

What is in memory does not depend on the number of files, their names aside: of full size are only as many images as there are
threads, and encoded, or shrunk to what the network and the overlay need, only those of a few batches.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image

from adjobs.data.image_file import ImageError
from adjobs.data.images import DecodedImage, stretch
from adjobs.errors import DataError
from adjobs.evaluation.predictions import PredictionArrays, ScoreError, check_finite
from adjobs.inference.detector import Detector
from adjobs.inference.inputs import S3Reader, is_remote
from adjobs.inference.overlay import shrink
from adjobs.parallel import cores

BATCHES_AHEAD = 2  # that are read while others are in the network
BATCHES_BEHIND = 2  # that may wait for their results; beyond them no more are started
FETCHES = 16  # objects of S3 at the same time

Result = TypeVar("Result")


class ReadImage(NamedTuple):
    """What is kept of a file.

    Attributes:
        name: path of the file, or ``s3://`` address.
        pixels: ``(S, S, 3)`` uint8, stretched to the detector's size.
        shrunk: as overlays show it.
        size: width and height of the upright image.
        warning: how it differs from the training images, or None.
        milliseconds: that reading took, without fetching it.
    """

    name: str
    pixels: np.ndarray
    shrunk: Image.Image
    size: tuple[int, int]
    warning: str | None
    milliseconds: float


class ScoredFile(NamedTuple):
    """An image with its score.

    Attributes:
        image: what was read.
        score: finite.
        anomaly_map: ``(S, S)`` float32, finite, or None.
        milliseconds: of reading the image, and its share of the time that its batch took in the network.
    """

    image: ReadImage
    score: float
    anomaly_map: np.ndarray | None
    milliseconds: float


def predict_ahead(
    detector: Detector,
    names: Sequence[str],
    finish: Callable[[int, ScoredFile | Exception], Result],
    threads: int | None = None,
) -> Generator[Result, None, None]:
    """Score files, some ahead of the one whose result is awaited.

    Batches are the files in their order, whichever is read first, so that a folder has the same scores every time.

    Args:
        detector: used by several threads at the same time on a CPU.
        names: paths of files, and ``s3://`` addresses.
        finish: makes the result of a file from its index and its score, or the error of this file alone; called in threads.
        threads: cores to use; None uses all that the process may.

    Yields:
        The results, in the order of the files. When the iterator is closed, or an error is raised in it, what has not started is
        cancelled, and what has is awaited: a file or a batch per thread.
    """
    detector.expect(len(names))
    size, at_once = detector.batch_size, min(detector.concurrent_batches, threads or cores())
    starts = range(0, len(names), size)
    read_object = S3Reader()
    fetches = ThreadPoolExecutor(FETCHES, thread_name_prefix="predict-fetches")
    files = ThreadPoolExecutor(threads or cores(), thread_name_prefix="predict-files")
    network = ThreadPoolExecutor(at_once, thread_name_prefix="predict-network")
    finishing: deque[Future[Result]] = deque()

    def submit(start: int) -> Future[list[ScoredFile | Exception]]:
        batch = names[start : start + size]
        fetched = [fetches.submit(read_object, name) if is_remote(name) else None for name in batch]
        reading = [files.submit(_read, detector, *pair) for pair in zip(batch, fetched, strict=True)]
        return network.submit(lambda: _score(detector, [future.result() for future in reading]))

    submitted = map(submit, starts)
    try:
        scoring = deque(islice(submitted, at_once + BATCHES_AHEAD))
        for start in starts:
            outcomes = scoring.popleft().result()
            scoring.extend(islice(submitted, 1))
            finishing.extend(files.submit(finish, start + i, outcome) for i, outcome in enumerate(outcomes))
            while finishing and (finishing[0].done() or len(finishing) > BATCHES_BEHIND * size):
                yield finishing.popleft().result()
        while finishing:
            yield finishing.popleft().result()
    finally:
        fetches.shutdown(cancel_futures=True)  # in this order, as each waits for what is in the queue of the one before
        files.shutdown(cancel_futures=True)
        network.shutdown(cancel_futures=True)


def _read(detector: Detector, name: str, fetched: Future[bytes] | None) -> ReadImage | Exception:
    try:
        content = None if fetched is None else fetched.result()
        started_at = time.perf_counter()
        decoded = _decode_file(detector, Path(name)) if content is None else _decode_object(detector, name, content)
        pixels = stretch(decoded.image, detector.manifest.image_size)
        milliseconds = 1000 * (time.perf_counter() - started_at)
        warning = detector.manifest.image_reading.warning(decoded.range)
        return ReadImage(name, pixels, shrink(decoded.image), decoded.image.size, warning, milliseconds)
    except Exception as error:  # an error of one file never ends the others
        return error.with_traceback(None)  # which would keep the pixels


def _decode_file(detector: Detector, path: Path) -> DecodedImage:
    if not path.is_file():
        raise DataError(f"{path}: is not a regular file; give images, or folders of images")
    return detector.read_image(path)


def _decode_object(detector: Detector, name: str, content: bytes) -> DecodedImage:
    try:
        return detector.read_image(content)
    except ImageError as error:  # which knows the bytes alone
        raise ImageError(name, error.kind, error.reason) from error


def _score(detector: Detector, images: Sequence[ReadImage | Exception]) -> list[ScoredFile | Exception]:
    """Scores of those that could be read, in one batch; the errors of the others stay in their places."""
    outcomes = iter(_score_batch(detector, [image for image in images if isinstance(image, ReadImage)]))
    return [next(outcomes) if isinstance(image, ReadImage) else image for image in images]


def _score_batch(detector: Detector, images: Sequence[ReadImage]) -> list[ScoredFile | Exception]:
    """Scores of a batch; if it fails, of each image alone, so that only those fail that have to."""
    if not images:
        return []
    started_at = time.perf_counter()
    try:
        arrays = detector.predict_arrays(np.stack([image.pixels for image in images]))
    except Exception as error:  # too little memory, a fault of a method
        failure = error.with_traceback(None)
    else:
        milliseconds = 1000 * (time.perf_counter() - started_at) / len(images)
        return [_pick(arrays, index, image, milliseconds) for index, image in enumerate(images)]
    if len(images) == 1:
        return [failure]
    return [outcome for image in images for outcome in _score_batch(detector, [image])]


def _pick(arrays: PredictionArrays, index: int, image: ReadImage, milliseconds: float) -> ScoredFile | ScoreError:
    """One image of a batch; an error of its own if its score or its map is not finite."""
    one = slice(index, index + 1)
    maps = None if arrays.anomaly_maps is None else arrays.anomaly_maps[one]
    try:
        extra_scores = {name: values[one] for name, values in arrays.extra_scores.items()}
        check_finite(PredictionArrays(arrays.score[one], maps, extra_scores), [image.name])
    except ScoreError as error:
        return error
    anomaly_map = None if maps is None else maps[0]
    return ScoredFile(image, float(arrays.score[index]), anomaly_map, image.milliseconds + milliseconds)
