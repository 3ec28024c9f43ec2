"""Predictions for image files: one JSON line and one overlay each."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from adjobs.data.reading import ReadContext
from adjobs.data.walk import IMAGE_SUFFIXES, image_files
from adjobs.errors import AdjobsError, DataError, StorageError, one_line, printable
from adjobs.inference.detector import Detector
from adjobs.inference.overlay import draw_overlay, save_overlay
from adjobs.inference.pipeline import ScoredFile, predict_ahead
from adjobs.storage.outputs import OutputFolder, written_names

LINES_FILE = "predictions.jsonl"
MAX_NAME_BYTES = 200  # of an overlay, without suffix and number; file systems allow 255 in all


class InputImages(NamedTuple):
    """Images to predict.

    Attributes:
        images: in order.
        outside_links: links that lead out of a folder that was named, and were not followed.
    """

    images: list[Path]
    outside_links: list[Path]


def find_images(paths: Sequence[str | Path], *, follow_links: bool = False) -> InputImages:
    """Files that are named, and the images inside named folders, in order.

    In folders the rules of data sets hold: hidden files and folders are left out, and links are followed inside a folder, but not
    out of it. The results of earlier predictions are left out, too.

    Args:
        paths: images and folders. One that is a link itself is followed.
        follow_links: follow links out of folders, too.

    Raises:
        DataError: a path that does not exist, or a folder without images or that cannot be listed.
    """
    result = InputImages([], [])
    for name in paths:
        if not str(name).strip():  # an unset variable of a shell; Path("") is the working directory
            raise DataError(f"'{name}': no such file or folder; give images, or folders of images")
        path = Path(name)
        try:
            is_folder = stat.S_ISDIR(path.stat().st_mode)
        except (FileNotFoundError, NotADirectoryError, ValueError) as error:
            raise DataError(f"'{path}': no such file or folder; give images, or folders of images") from error
        except OSError:  # a name that is too long, a folder that may not be entered: the error of this file, not of all
            is_folder = False
        images, links = _images_in(path, follow_links) if is_folder else InputImages([path], [])
        result.images.extend(images)
        result.outside_links.extend(links)
    return result


def _images_in(folder: Path, follow_links: bool) -> InputImages:
    context = ReadContext(boundary=None if follow_links else folder)
    images = image_files(folder, context)
    outputs = {folder / name for folder in {image.parent for image in images} for name in written_names(folder)}
    inside = [image for image in images if image not in outputs]
    if not inside:
        results = "; results of earlier predictions are left out" if images else ""
        if context.outside_links:
            results += (
                f"; links out of it are left out, such as {min(context.outside_links).name}, unless --follow-links is given"
            )
        raise DataError(f"'{folder}': a folder without images; allowed are {', '.join(sorted(IMAGE_SUFFIXES))}{results}")
    return InputImages(inside, sorted(context.outside_links))


def open_output(paths: Iterable[Path], out: Path) -> OutputFolder:
    """The folder for the predictions of files.

    Raises:
        StorageError: it has images to predict, or a file with the name of a result that is no result of an earlier prediction.
    """
    paths = list(paths)
    folder = OutputFolder(out, "predict")
    resolved, results = folder.path.resolve(), written_names(folder.path)
    inputs = [path for path in paths if path.name not in results and path.parent.resolve() == resolved]
    if inputs:  # the next training would take the overlays for images
        raise StorageError(f"{out}: holds images to predict, such as {inputs[0].name}; choose another folder with --out")
    folder.check([LINES_FILE, *_overlay_names(paths, folder.path)])
    return folder


def predict_files(detector: Detector, paths: Iterable[Path], out: Path) -> Iterator[dict[str, Any]]:
    """Predict files; overlays and a file of JSON lines are written to ``out``, in the order of the files.

    Files are read, predicted and drawn at the same time, see :mod:`adjobs.inference.pipeline`. Scores may differ from those of
    single images by the rounding of batches, relative 1e-5 at most; they are the same every time.

    Yields:
        For each file: path and error if it cannot be predicted, otherwise path, score, decision, threshold; milliseconds that
        reading took, plus the image's share of its batch in the network; defect_area, the share of pixels at or above the pixel
        threshold, in [0, 1], None without anomaly maps; regions, of an anomalous image, see
        :func:`adjobs.inference.regions.find_regions`; warning, only of an image that differs in bit depth or range of values from
        the training images; and for methods with anomaly maps overlay, the path of the image drawn. An error of one file never
        ends the others. A line is in the file before it is yielded.

    Raises:
        StorageError: see :func:`open_output`, or the lines cannot be written.
    """
    paths = list(paths)
    folder = open_output(paths, out)
    overlays = _overlay_names(paths, folder.path)

    def finish(index: int, outcome: ScoredFile | Exception) -> dict[str, Any]:
        if not isinstance(outcome, Exception):
            try:
                return _finish(detector, outcome, folder, overlays[index])
            except Exception as error:  # a full disk, too little memory
                outcome = error
        return {"path": str(paths[index]), "error": _describe(paths[index], outcome)}

    with folder.open_lines(LINES_FILE) as lines, closing(predict_ahead(detector, paths, finish)) as finished:
        for line in finished:
            lines.append(json.dumps(line, allow_nan=False))  # at once: a run that is stopped keeps what it has done
            yield line


def _describe(path: Path, error: Exception) -> str:
    """Why a file has no prediction, on one line."""
    if isinstance(error, AdjobsError):
        return str(error)
    # Too little memory, a full disk, a fault of a method.
    cause = (error.strerror if isinstance(error, OSError) else None) or f"{type(error).__name__}: {one_line(error)}"
    return printable(f"{path}: cannot be predicted ({cause})")


def _finish(detector: Detector, scored: ScoredFile, folder: OutputFolder, overlay: str) -> dict[str, Any]:
    """Decide, and draw the overlay."""
    image = scored.image
    prediction = detector.decide(scored.score, scored.anomaly_map, image.size, image.warning)
    line: dict[str, Any] = {
        "path": str(image.path),
        "score": prediction.score,
        "decision": prediction.decision,
        "threshold": prediction.threshold,
        "milliseconds": round(scored.milliseconds, 2),
        "defect_area": prediction.defect_area,
        "regions": [list(region) for region in prediction.regions],
    }
    if prediction.warning is not None:
        line["warning"] = prediction.warning
    if prediction.anomaly_map is not None:
        # Not every method's map is on the scale of its score.
        threshold = detector.threshold if detector.pixel_threshold is None else detector.pixel_threshold
        floor = detector.manifest.map_floor or 0.0
        drawn = draw_overlay(image.shrunk, prediction.anomaly_map, floor, threshold, prediction.region_mask)
        with folder.write(overlay) as temporary:
            save_overlay(drawn, temporary)
        line["overlay"] = str(folder.path / overlay)
    return line


def _overlay_names(paths: Iterable[Path], out: Path) -> list[str]:
    """A file name in ``out`` for the overlay of each image, other than those of the images there."""
    paths, folder = list(paths), out.resolve()
    used = {path.stem.casefold() for path in paths if path.parent.resolve() == folder}
    return [_free_name(path, used) for path in paths]


def _free_name(path: Path, used: set[str]) -> str:
    """A file name for the overlay; images of the same name in different folders get a number."""
    stem = path.stem
    while len(os.fsencode(stem)) > MAX_NAME_BYTES:
        stem = stem[:-1]
    name, number = stem, 1
    while name.casefold() in used:
        number += 1
        name = f"{stem}-{number}"
    used.add(name.casefold())
    return f"{name}.png"
