"""The model that is served: which one it is, and that it is warm before anybody is answered by it."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adjobs.config.environment import load_settings
from adjobs.errors import TrackingError
from adjobs.inference.drawn import drawn_images

if TYPE_CHECKING:
    from adjobs.inference.detector import Detector

log = logging.getLogger(__name__)

REGISTRY = "models:/"
MANY = 10**9  # images: enough for an engine that pays for many to be prepared now
SLOW_BATCH_SECONDS = 5.0
"""A batch that would take longer is not tried: whoever comes next would wait for it."""

ROUNDS = 3
WORTHWHILE = 0.75
"""Time per image of a batch, in that of one image alone, from which on batches are computed."""


@dataclass(frozen=True)
class ModelInfo:
    """Which model it is, as answers say.

    Attributes:
        name: of the registered model, or what stands for it.
        version: in the registry; None for a model that is not registered.
        run_id: of the run that trained it; None where that is not recorded.
        method: its method.
        image_size: side of the square in pixels to which images are stretched, and side of anomaly maps.
        threshold: for images.
        pixel_threshold: for pixels of the anomaly map; None without anomaly maps.
    """

    name: str
    version: int | None
    run_id: str | None
    method: str
    image_size: int
    threshold: float
    pixel_threshold: float | None

    def __str__(self) -> str:
        return self.name if self.version is None else f"{self.name} version {self.version}"


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A detector that is ready.

    Attributes:
        pinned: what was loaded, which never changes.
        info: which one it is.
        detector: after its first predictions.
        batch_size: images that are computed at once.
        seconds: of one image, as its first predictions took.
    """

    pinned: str
    info: ModelInfo
    detector: Detector
    batch_size: int
    seconds: float


class ModelSource:
    """Where the model comes from: a run, a version, a folder, or an alias that stands for one version after another.

    Args:
        model: what :func:`adjobs.api.load_detector` takes.
        load: that function, with its other arguments.
        name: by which the model is called in answers; None: by its own.
        max_batch: images that may be computed at once.
        find_run: gives the run that trained a model; None: `recorded_run`.
    """

    def __init__(
        self,
        model: str,
        load: Callable[[str], Detector],
        name: str | None = None,
        max_batch: int = 16,
        find_run: Callable[[str], str | None] | None = None,
    ) -> None:
        self.model, self._load, self._name, self._max_batch = model, load, name, max_batch
        self._find_run = find_run or recorded_run

    @property
    def alias(self) -> str | None:
        """The alias that is followed; None if the model stays as it is."""
        return self.model.rpartition("@")[2] if self.model.startswith(REGISTRY) and "@" in self.model else None

    def resolve(self) -> str:
        """What the model stands for now.

        Raises:
            TrackingError: MLflow does not answer, or there is no such model.
        """
        if self.alias is None:
            return self.model
        from adjobs.tracking.logged_model import pin_model_uri

        return pin_model_uri(load_settings().tracking_uri, self.model)

    def load(self, pinned: str) -> ServedModel:
        """Load it and predict the first images.

        Raises:
            AdjobsError: it cannot be loaded.
        """
        started_at = time.monotonic()
        detector = self._load(pinned)
        info = self._describe(pinned, detector)
        batch_size, seconds = warm_up(detector, self._max_batch)
        took = time.monotonic() - started_at
        log.info("%s is ready after %.1f s; %d images at once, %.1f ms each", info, took, batch_size, 1000 * seconds)
        return ServedModel(pinned, info, detector, batch_size, seconds)

    def _describe(self, pinned: str, detector: Detector) -> ModelInfo:
        manifest = detector.manifest
        name, version = _name_and_version(pinned)
        pixel_threshold = None if manifest.pixel_threshold is None else manifest.pixel_threshold.value
        size, threshold = manifest.image_size, detector.threshold
        return ModelInfo(self._name or name, version, self._find_run(pinned), manifest.method, size, threshold, pixel_threshold)


def warm_up(detector: Detector, max_batch: int) -> tuple[int, float]:
    """Predict drawn images, so that whatever is compiled or captured at the first of a kind is ready.

    Args:
        detector: just loaded.
        max_batch: images that may be computed at once.

    Returns:
        How many images are best computed at once, and the seconds that one takes.
    """
    noise, smooth = drawn_images(detector.manifest.image_size)
    detector.expect(MANY)
    _predict(detector, [noise, smooth], 2)
    times = {1: _predict(detector, [smooth], 1)}
    sizes = [size for size in (4, 16, 64, 256) if size < max_batch] + [max_batch]
    sizes = [1, *(size for size in sizes if size > 1 and size * times[1] < SLOW_BATCH_SECONDS)]
    for _ in range(ROUNDS):  # of all sizes, since what else the machine does comes and goes
        for size in sizes:
            times[size] = min(_predict(detector, [smooth, noise], size), times.get(size, math.inf))
        sizes = [size for size in sizes if size == 1 or times[size] < times[1]]  # others keep those waiting who are answered now
    best = min(times, key=lambda size: times[size])
    chosen = best if times[best] < WORTHWHILE * times[1] else 1
    return chosen, times[chosen]


def _predict(detector: Detector, images: list[Any], count: int) -> float:
    """Seconds per image."""
    batch = [images[index % len(images)] for index in range(count)]
    started_at = time.perf_counter()
    detector.predict_batch(batch, [f"drawn image {index}" for index in range(count)])
    return (time.perf_counter() - started_at) / count


def _name_and_version(pinned: str) -> tuple[str, int | None]:
    if not pinned.startswith(REGISTRY):
        return Path(pinned).resolve().name, None  # a folder's last name, or a run's id
    name, slash, version = pinned.removeprefix(REGISTRY).rpartition("/")
    return (name, int(version)) if slash and version.isdecimal() else (version, None)


def recorded_run(pinned: str) -> str | None:
    """The run that trained a model, as MLflow or the user's folder says; None where neither does."""
    from adjobs.tracking.runs import source_run

    settings = load_settings()
    try:
        run = source_run(settings.tracking_uri, settings.home, pinned)
    except TrackingError:
        return None
    return None if run is None else run.run_id
