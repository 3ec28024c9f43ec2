"""What is written of a prediction: one line, and an image with its anomaly map over it."""

from __future__ import annotations

from typing import Any

from PIL import Image

from adjobs.errors import AdjobsError, one_line, printable
from adjobs.inference.detector import Detector, ImagePrediction
from adjobs.inference.overlay import draw_overlay
from adjobs.inference.pipeline import ReadImage, ScoredFile

COLUMNS = {
    "path": "string",
    "score": "double",
    "decision": "string",
    "threshold": "double",
    "milliseconds": "double",
    "defect_area": "double",
    "regions": "boxes",
    "warning": "string",
    "overlay": "string",
    "error": "string",
}
"""The keys of lines, with their types in tables; see :func:`adjobs.storage.arrow.write_parquet`."""


def describe_prediction(detector: Detector, scored: ScoredFile, *, draw: bool) -> tuple[dict[str, Any], Image.Image | None]:
    """The line of an image, without the path of its overlay, and the overlay, if it shall be drawn and there is a map."""
    image = scored.image
    prediction = detector.decide(scored.score, scored.anomaly_map, image.size, image.warning)
    line: dict[str, Any] = {
        "path": image.name,
        "score": prediction.score,
        "decision": prediction.decision,
        "threshold": prediction.threshold,
        "milliseconds": round(scored.milliseconds, 2),
        "defect_area": prediction.defect_area,
        "regions": [list(region) for region in prediction.regions],
    }
    if prediction.warning is not None:
        line["warning"] = prediction.warning
    return line, _draw(detector, image, prediction) if draw else None


def describe_error(name: str, error: Exception) -> dict[str, Any]:
    """The line of an image that has no prediction: why, on one line."""
    if isinstance(error, AdjobsError):
        return {"path": name, "error": str(error)}
    # Too little memory, a full disk, a fault of a method.
    cause = (error.strerror if isinstance(error, OSError) else None) or f"{type(error).__name__}: {one_line(error)}"
    return {"path": name, "error": printable(f"{name}: cannot be predicted ({cause})")}


def _draw(detector: Detector, image: ReadImage, prediction: ImagePrediction) -> Image.Image | None:
    if prediction.anomaly_map is None:
        return None
    # Not every method's map is on the scale of its score.
    threshold = detector.threshold if detector.pixel_threshold is None else detector.pixel_threshold
    floor = detector.manifest.map_floor or 0.0
    return draw_overlay(image.shrunk, prediction.anomaly_map, floor, threshold, prediction.region_mask)
