"""Many image files through a detector: reading, network and what is done with the predictions go on at the same time.

One file after the other leaves cores idle: reading, drawing and compressing take one thread, and for CDO at 256 px as long as the
network. Pillow, NumPy, zlib and PyTorch release Python's lock, so threads are enough.

The threads of PyTorch, which share the work of each operator, wait for each other actively after each, and get slower by a
multiple when other threads want the same cores. So on a CPU a network is best run with one thread, and several batches at a time:
see :meth:`adjobs.inference.detector.Detector.throughput_mode`, which is for the process to choose, as it holds for all of it.

What is in memory does not depend on the number of files: of full size are only as many images as there are threads, and shrunk to
what the network and the overlay need only those of a few batches.
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

from adjobs.data.images import stretch
from adjobs.errors import DataError
from adjobs.evaluation.predictions import PredictionArrays, ScoreError, check_finite
from adjobs.inference.detector import Detector
from adjobs.inference.overlay import shrink
from adjobs.parallel import cores

BATCHES_AHEAD = 2  # that are read while others are in the network
BATCHES_BEHIND = 2  # that may wait for their results; beyond them no more are started

Result = TypeVar("Result")


class ReadImage(NamedTuple):
    """What is kept of a file.

    Attributes:
        path: of the file.
        pixels: ``(S, S, 3)`` uint8, stretched to the detector's size.
        shrunk: as overlays show it.
        size: width and height of the upright image.
        warning: how it differs from the training images, or None.
        milliseconds: that reading took.
    """

    path: Path
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
    detector: Detector, paths: Sequence[Path], finish: Callable[[int, ScoredFile | Exception], Result]
) -> Generator[Result, None, None]:
    """Score files, some ahead of the one whose result is awaited.

    Batches are the files in their order, whichever is read first, so that a folder has the same scores every time.

    Args:
        detector: used by several threads at the same time on a CPU.
        paths: of the files.
        finish: makes the result of a file from its index and its score, or the error of this file alone; called in threads.

    Yields:
        The results, in the order of the files. When the iterator is closed, or an error is raised in it, what has not started is
        cancelled, and what has is awaited: a file or a batch per thread.
    """
    detector.expect(len(paths))
    size, at_once = detector.batch_size, detector.concurrent_batches
    starts = range(0, len(paths), size)
    files = ThreadPoolExecutor(cores(), thread_name_prefix="predict-files")
    network = ThreadPoolExecutor(at_once, thread_name_prefix="predict-network")
    finishing: deque[Future[Result]] = deque()

    def submit(start: int) -> Future[list[ScoredFile | Exception]]:
        reading = [files.submit(_read, detector, path) for path in paths[start : start + size]]
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
        files.shutdown(cancel_futures=True)  # first, since what is in the network's queue waits for it
        network.shutdown(cancel_futures=True)


def _read(detector: Detector, path: Path) -> ReadImage | Exception:
    started_at = time.perf_counter()
    try:
        _refuse_special(path)
        decoded = detector.read_image(path)
        pixels = stretch(decoded.image, detector.manifest.image_size)
        milliseconds = 1000 * (time.perf_counter() - started_at)
        warning = detector.manifest.image_reading.warning(decoded.range)
        return ReadImage(path, pixels, shrink(decoded.image), decoded.image.size, warning, milliseconds)
    except Exception as error:  # an error of one file never ends the others
        return error.with_traceback(None)  # which would keep the pixels


def _refuse_special(path: Path) -> None:
    if not path.is_file():
        raise DataError(f"{path}: is not a regular file; give images, or folders of images")


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
        check_finite(PredictionArrays(arrays.score[one], maps, extra_scores), [str(image.path)])
    except ScoreError as error:
        return error
    anomaly_map = None if maps is None else maps[0]
    return ScoredFile(image, float(arrays.score[index]), anomaly_map, image.milliseconds + milliseconds)
