"""Predictions for image files in this process: one JSON line and one overlay each."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from adjobs.inference.detector import Detector
from adjobs.inference.lines import describe_error, describe_prediction
from adjobs.inference.overlay import encode_overlay
from adjobs.inference.pipeline import ScoredFile, predict_ahead
from adjobs.inference.results import ResultFolder


def predict_files(
    detector: Detector, paths: Iterable[str | Path], out: Path, *, overlays: bool = True
) -> Iterator[dict[str, Any]]:
    """Predict files; overlays and a file of JSON lines are written to ``out``, in the order of the files.

    Files are read, predicted and drawn at the same time, see :mod:`adjobs.inference.pipeline`. Scores may differ from those of
    single images by the rounding of batches, relative 1e-5 at most; they are the same every time.

    Args:
        detector: fastest on processors inside its :meth:`~adjobs.inference.detector.Detector.throughput_mode`.
        paths: of files, and ``s3://`` addresses.
        out: a folder.
        overlays: whether to draw the anomaly maps over the images.

    Yields:
        For each file: path and error if it cannot be predicted, otherwise path, score, decision, threshold; milliseconds that
        reading took, plus the image's share of its batch in the network; defect_area, the share of pixels at or above the pixel
        threshold, in [0, 1], None without anomaly maps; regions, of an anomalous image, see
        :func:`adjobs.inference.regions.find_regions`; warning, only of an image that differs in bit depth or range of values from
        the training images; and for methods with anomaly maps overlay, the path of the image drawn. An error of one file never
        ends the others. A line is in the file before it is yielded.

    Raises:
        StorageError: see :class:`adjobs.inference.results.ResultFolder`, or the lines cannot be written.
    """
    names = [str(path) for path in paths]
    with ResultFolder(names, out, draw=overlays) as results:
        yield from predict_into(results, detector, results.start(), draw=overlays)


def predict_into(
    results: ResultFolder, detector: Detector, names: Sequence[str], *, draw: bool
) -> Generator[dict[str, Any], None, None]:
    """Predict images into an open folder of results; yields their lines.

    Args:
        results: started.
        detector: see :func:`predict_files`.
        names: those that remain.
        draw: whether to draw overlays.
    """

    def predict_one(index: int, scored: ScoredFile) -> dict[str, Any]:
        line, overlay = describe_prediction(detector, scored, draw=draw)
        if overlay is not None:
            line["overlay"] = results.write_overlay(results.overlay(index), encode_overlay(overlay))
        return line

    def finish(index: int, outcome: ScoredFile | Exception) -> dict[str, Any]:
        if not isinstance(outcome, Exception):
            try:
                return predict_one(index, outcome)
            except Exception as error:  # a full disk, too little memory
                outcome = error
        return describe_error(names[index], outcome)

    with closing(predict_ahead(detector, names, finish)) as finished:
        for line in finished:
            results.append(line)  # at once: a run that is stopped keeps what it has done
            yield line
