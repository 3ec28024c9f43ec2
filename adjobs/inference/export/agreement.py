"""Does an exported model say what the detector says? Compared on real images, at the detector's size and at their own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adjobs.data.images import DecodedImage, stretch
from adjobs.errors import JobError
from adjobs.evaluation.predictions import PredictionArrays, check_finite
from adjobs.inference.drawn import drawn_images
from adjobs.inference.engine import TOLERANCE
from adjobs.inference.engine_contract import Engine
from adjobs.inference.manifest import Agreement
from adjobs.inference.torch_detector import TorchDetector

ROUNDING = 2e-5  # of the largest score: one that is as near as that to the threshold is on either side of it by rounding
AT_SIZE, RESIZED = "at the detector's size", "at its own size, resized by the model"
TIMED, TIMED_SECONDS = 30, 10.0  # images for each speed, after two to warm up, and for how long at most


@dataclass(frozen=True)
class Speed:
    """Median milliseconds of one image of the detector's size, from uint8 pixels to score and map."""

    torch: float
    exported: float


class DisagreementError(JobError):
    """An exported model predicts something else than the detector.

    Attributes:
        pixels: ``(1, S, S, 3)`` uint8, on which it does.
    """

    def __init__(self, message: str, pixels: np.ndarray) -> None:
        super().__init__(message)
        self.pixels = pixels


def compare(detector: TorchDetector, fixed: Engine, free: Engine, paths: Sequence[Path]) -> Agreement:
    """Compare an exported model with its detector.

    Args:
        detector: with the engine ``torch``.
        fixed: the exported model for images of the detector's size.
        free: the same for images of any size, which it resizes itself.
        paths: of the images.

    Raises:
        DataError: an image that cannot be read.
        DisagreementError: a score or a map differs by more than `TOLERANCE`, or a decision by more than rounding.
    """
    expected, at_size, resized, pixels = [], [], [], []
    for path in paths:
        decoded = detector.read_image(path)
        pixels.append(stretch(decoded.image, detector.manifest.image_size)[None])
        expected.append(detector.predict_arrays(pixels[-1]))
        at_size.append(fixed.predict(pixels[-1]))
        resized.append(free.predict(_at_own_size(decoded)))
        for predicted, what in ((expected[-1], "by PyTorch"), (at_size[-1], "by the exported model")):
            check_finite(predicted, [f"{path} ({what})"])
    scale = max(float(np.abs(each.score[0])) for each in expected)
    maps = [each.anomaly_maps for each in expected if each.anomaly_maps is not None]
    reach = float(max(m.max() for m in maps) - min(m.min() for m in maps)) if maps else None
    differences = _Differences(detector.threshold, scale, reach or scale)
    for path, reference, first, second, image in zip(paths, expected, at_size, resized, pixels, strict=True):
        differences.add(path, reference, first, image, AT_SIZE)
        differences.add(path, reference, second, image, RESIZED)
    return Agreement(
        images=len(paths),
        score_difference=differences.score[AT_SIZE],
        map_difference=None if reach is None else differences.map,
        resized_score_difference=differences.score[RESIZED],
        changed_decisions=len(differences.changed),
    )


def speed_of(detector: TorchDetector, exported: Engine) -> Speed:
    """How long one image takes, both in turns so that other work on the machine slows both."""
    side = detector.manifest.image_size
    image = drawn_images(side)[1:]
    taken: dict[str, list[float]] = {"torch": [], "exported": []}
    end = time.perf_counter() + TIMED_SECONDS
    while len(taken["torch"]) < 3 or (time.perf_counter() < end and len(taken["torch"]) < TIMED + 2):
        for name, engine in (("torch", detector.engine), ("exported", exported)):
            started_at = time.perf_counter()
            engine.predict(image)
            taken[name].append(1000 * (time.perf_counter() - started_at))
    return Speed(**{name: float(np.median(values[2:])) for name, values in taken.items()})


class _Differences:
    """The largest differences so far; the first one that is too large is raised."""

    def __init__(self, threshold: float, scale: float, reach: float) -> None:
        self._threshold, self._scale, self._reach = threshold, scale, reach
        self.score: dict[str, float] = {}
        self.map = 0.0
        self.changed: set[Path] = set()

    def add(self, path: Path, expected: PredictionArrays, actual: PredictionArrays, pixels: np.ndarray, how: str) -> None:
        score, other = float(expected.score[0]), float(actual.score[0])
        difference = abs(other - score) / self._scale if self._scale else abs(other - score)
        self.score[how] = max(self.score.get(how, 0.0), difference)
        if not difference <= TOLERANCE:
            self._refuse(path, f"{how} its score is {other:.6g}, by PyTorch {score:.6g}", pixels)
        if expected.anomaly_maps is not None and actual.anomaly_maps is not None:
            self._add_map(path, expected.anomaly_maps, actual.anomaly_maps, pixels, how)
        if (score >= self._threshold) != (other >= self._threshold):
            if abs(score - self._threshold) > ROUNDING * self._scale:
                self._refuse(path, f"{how} it is decided differently (score {other:.6g}, by PyTorch {score:.6g})", pixels)
            self.changed.add(path)

    def _add_map(self, path: Path, values: np.ndarray, others: np.ndarray, pixels: np.ndarray, how: str) -> None:
        gaps = np.abs(others - values)
        difference = float(gaps.max()) / self._reach if self._reach else float(gaps.max())
        self.map = max(self.map, difference)
        if not difference <= TOLERANCE:
            _, row, column = np.unravel_index(int(gaps.argmax()), gaps.shape)
            place = f"{how} pixel ({column}, {row}) of its anomaly map"
            self._refuse(path, f"{place} is {others[0, row, column]:.6g}, by PyTorch {values[0, row, column]:.6g}", pixels)

    def _refuse(self, path: Path, what: str, pixels: np.ndarray) -> None:
        raise DisagreementError(f"image {path}: {what}", pixels)


def _at_own_size(decoded: DecodedImage) -> np.ndarray:
    """``(1, H, W, 3)`` uint8."""
    return np.array(decoded.image.convert("RGB"))[None]
