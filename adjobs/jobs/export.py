"""Exporting a trained detector, compared on images that it has not been trained on."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from adjobs.config.settings import Settings
from adjobs.data.open import open_dataset
from adjobs.errors import AdjobsError, DataError, JobError, choices, shorten
from adjobs.inference.engine_contract import FORMATS, GraphFormat
from adjobs.inference.engine_exported import PACKAGES
from adjobs.inference.inputs import find_images
from adjobs.inference.torch_detector import TorchDetector
from adjobs.tracking.logged_model import pin_model_uri
from adjobs.tracking.reader import RunReader
from adjobs.tracking.runs import detector_folder, open_reader, source_run

if TYPE_CHECKING:
    from adjobs.inference.export.export import ExportResult

Value = TypeVar("Value")


def export_model(
    model: str, out: Path, format: GraphFormat, settings: Settings, *, images: Sequence[str | Path] = (), count: int = 32
) -> ExportResult:
    """Export the detector of a run, a registered model, or a folder.

    Args:
        model: a run id, a ``models:/`` URI, or a detector's folder.
        out: folder for the exported detector.
        format: ``onnx`` or ``openvino``.
        settings: where MLflow and the caches are.
        images: files and folders of images to compare on; none: validation images of the run, half of them those whose scores
            are nearest to the threshold.
        count: of images to compare on, at most.

    Raises:
        JobError: packages are missing, the method cannot be exported, or the exported model says something else.
        DataError: no images to compare on, or one of them cannot be read.
        StorageError: the folder holds other files, or cannot be written; or it is not a detector.
        TrackingError: there is no such run or model.
    """
    _check(format, count)
    from adjobs.inference.export.export import export_detector, open_output  # optional packages

    folder = open_output(out, format)
    name = pin_model_uri(settings.tracking_uri, model) if model.startswith("models:/") else model
    with detector_folder(settings.tracking_uri, settings.home, name) as path:
        detector = TorchDetector.load(path, "cpu", "torch")
    if images:
        paths = _evenly(find_images(images).images, count)
    else:
        paths = _validation_images(name, detector.threshold, settings, count)
    return export_detector(detector, format, folder, paths)


def _check(format: GraphFormat, count: int) -> None:
    if format not in FORMATS:
        raise JobError(f"format: unknown format {format!r}; {choices(format, FORMATS)}")
    if count < 1:
        raise JobError(f"count: got {count}; at least 1 image is compared")
    missing = [package for package in ("onnx", "onnxscript", PACKAGES[format]) if importlib.util.find_spec(package) is None]
    if missing:
        raise JobError(f"export: {', '.join(missing)} is not installed; run: pip install 'adjobs[export]'")


def _validation_images(model: str, threshold: float, settings: Settings, count: int) -> list[Path]:
    """Images of the run's validation split: half of them near the threshold, half of them all over the range of scores."""
    advice = "name some with --images"
    run = source_run(settings.tracking_uri, settings.home, model)
    if run is None:
        raise DataError(f"model '{model}': no run is recorded with it, so no images are known to compare on; {advice}")
    try:
        return _near_and_far(open_reader(run), threshold, settings, count)
    except AdjobsError as error:
        reason = shorten(str(error), 300)
        raise DataError(f"model '{model}': its validation images cannot be read ({reason}); {advice}") from error


def _near_and_far(run: RunReader, threshold: float, settings: Settings, count: int) -> list[Path]:
    stored = run.scores("val")
    data = run.stored_run().job.data
    dataset = open_dataset(data.uri, data.format, cache=settings.cache, options=data.read_options)
    files = {sample.id: sample.image for sample in dataset.samples}
    known = np.flatnonzero([name in files for name in stored.ids])
    if not known.size:
        raise DataError(f"data '{data.uri}': none of its {len(stored.ids)} validation images is left")
    by_distance = known[np.argsort(np.abs(stored.score[known] - threshold), kind="stable")]
    near, others = by_distance[: (count + 1) // 2], by_distance[(count + 1) // 2 :]
    by_score = others[np.argsort(stored.score[others], kind="stable")]
    chosen = [*near, *_evenly(list(by_score), count // 2)]
    return [files[stored.ids[index]] for index in chosen]


def _evenly(values: list[Value], count: int) -> list[Value]:
    if len(values) <= count:
        return values
    return [values[int(index)] for index in np.linspace(0, len(values) - 1, count).round()]
