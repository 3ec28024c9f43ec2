"""A trained model outside training: images in, scores, decisions, anomaly maps and regions out."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, overload

import numpy as np
from PIL import Image

from adjobs.data.images import DecodedImage, decode_array, decode_details, decode_opened, stretch
from adjobs.errors import DataError
from adjobs.evaluation.predictions import EVAL_BATCH, PredictionArrays, check_finite
from adjobs.inference.engine_contract import Engine
from adjobs.inference.manifest import Manifest
from adjobs.inference.regions import Region, find_regions

ImageInput = str | Path | bytes | Image.Image | np.ndarray
"""What can be predicted: a path, the bytes of an image file, a PIL image, or a uint8 or uint16 array."""

CPU_BATCH = 4  # on two cores CDO is slower with 1 and 2 and no faster with 8; LIAC at 256 px, alone, is faster with 2


@dataclass(frozen=True)
class ImagePrediction:
    """What a detector says of one image.

    Attributes:
        score: higher is more anomalous.
        threshold: the image is anomalous when its score is at least this.
        decision: ``anomalous`` or ``normal``.
        anomaly_map: ``(S, S)`` float32 at the detector's own size, or None for methods that do not localise.
        defect_mask: ``(S, S)`` bool, pixels that reach the pixel threshold, whatever the decision; None without anomaly maps.
        regions: boxes around connected defect pixels of an anomalous image, in pixels of the image, largest first. On an image
            that is decided to be normal defect pixels are noise, and there are none.
        region_mask: ``(S, S)`` bool, the pixels of these regions; None for normal images and without anomaly maps.
        warning: how the image differs in bit depth or range of values from those that the detector was trained on, or None.
    """

    score: float
    threshold: float
    decision: Literal["normal", "anomalous"]
    anomaly_map: np.ndarray | None = None
    defect_mask: np.ndarray | None = None
    regions: tuple[Region, ...] = ()
    region_mask: np.ndarray | None = None
    warning: str | None = None

    @property
    def defect_area(self) -> float | None:
        """Share of the pixels that reach the pixel threshold, in [0, 1]; None without anomaly maps."""
        return None if self.defect_mask is None else float(self.defect_mask.mean())


class Detector:
    """A loaded detector: what an engine computes, and what follows from it.

    Attributes:
        engine: computes scores and anomaly maps.
        manifest: what its folder says.
    """

    def __init__(self, engine: Engine, manifest: Manifest) -> None:
        self.engine, self.manifest = engine, manifest

    @property
    def threshold(self) -> float:
        """An image is called anomalous when its score is at least this."""
        return self.manifest.threshold.value

    @property
    def pixel_threshold(self) -> float | None:
        """A pixel is defective when the anomaly map is at least this; None for methods without anomaly maps."""
        stored = self.manifest.pixel_threshold
        return None if stored is None else stored.value

    @overload
    def __call__(self, images: ImageInput) -> ImagePrediction: ...

    @overload
    def __call__(self, images: list[ImageInput] | tuple[ImageInput, ...]) -> list[ImagePrediction]: ...

    def __call__(self, images: ImageInput | list[ImageInput] | tuple[ImageInput, ...]) -> ImagePrediction | list[ImagePrediction]:
        """Predict one image or several.

        Args:
            images: a path, the bytes of an image file, a PIL image, or a ``(H, W)`` or ``(H, W, 3)`` uint8 or uint16 array,
                RGB; or a list of these. They are read and stretched to the detector's size as in training.

        Returns:
            A prediction for one image, a list for several, in their order.

        Raises:
            DataError: not an image, truncated or too large, or an array of another type or shape.
            ScoreError: the method's scores are not finite.
        """
        if not isinstance(images, list | tuple):
            return self.predict_batch([images], ["image"])[0]
        self.expect(len(images))
        names = [f"image {index} of the list" for index in range(len(images))]
        batches = (slice(start, start + EVAL_BATCH) for start in range(0, len(images), EVAL_BATCH))
        return [prediction for batch in batches for prediction in self.predict_batch(images[batch], names[batch])]

    def predict_batch(self, images: Sequence[ImageInput | DecodedImage], names: Sequence[str]) -> list[ImagePrediction]:
        """Predict one batch, with names of the images for errors; otherwise like calling the detector."""
        decoded = [self.read_image(image, name) for image, name in zip(images, names, strict=True)]
        arrays = self.predict_arrays(np.stack([stretch(each.image, self.manifest.image_size) for each in decoded]))
        check_finite(arrays, names)
        maps: list[np.ndarray | None] = [None] * len(images) if arrays.anomaly_maps is None else list(arrays.anomaly_maps)
        return [
            self.decide(float(score), anomaly_map, each.image.size, self.manifest.image_reading.warning(each.range))
            for score, anomaly_map, each in zip(arrays.score, maps, decoded, strict=True)
        ]

    def decide(
        self, score: float, anomaly_map: np.ndarray | None, size: tuple[int, int], warning: str | None = None
    ) -> ImagePrediction:
        """What follows from the score of an image.

        Args:
            score: finite.
            anomaly_map: ``(S, S)`` float32 at the detector's own size, or None for methods that do not localise.
            size: width and height of the image in pixels.
            warning: how the image differs from those that the detector was trained on.
        """
        decision: Literal["normal", "anomalous"] = "anomalous" if score >= self.threshold else "normal"
        prediction = ImagePrediction(score, self.threshold, decision, anomaly_map, warning=warning)
        if anomaly_map is None or self.pixel_threshold is None:
            return prediction
        defect_mask = anomaly_map >= self.pixel_threshold
        if decision == "normal":
            return replace(prediction, defect_mask=defect_mask)
        regions, region_mask = find_regions(defect_mask, size)
        return replace(prediction, defect_mask=defect_mask, regions=regions, region_mask=region_mask)

    @property
    def batch_size(self) -> int:
        """How many images are best computed at once when there are many."""
        return CPU_BATCH

    @property
    def concurrent_batches(self) -> int:
        """How many batches are best computed at the same time, each in a thread."""
        return 1

    def throughput_mode(self) -> AbstractContextManager[None]:
        """A context in which several batches are computed at the same time rather than one with all cores.

        It holds for the whole process.
        """
        return nullcontext()

    def expect(self, count: int) -> None:
        """Say how many images will be predicted, so that an engine that pays for so many is prepared at the first of them."""

    def predict_arrays(self, images: np.ndarray) -> PredictionArrays:
        """Predict ``(B, S, S, 3)`` uint8 images of the detector's own size."""
        return self.engine.predict(images)

    def read_image(self, source: object, name: str = "image") -> DecodedImage:
        """Decode an image as those that the detector was trained on.

        Args:
            source: what `ImageInput` allows; what is decoded already is returned.
            name: of an image that is no file, for errors.

        Raises:
            DataError: not an image, truncated or too large, or an array of another type or shape.
        """
        reading = self.manifest.image_reading
        if isinstance(source, DecodedImage):
            return source
        if isinstance(source, str | Path | bytes):
            return decode_details(Path(source) if isinstance(source, str) else source, reading)
        if isinstance(source, Image.Image):
            return decode_opened(source, name, reading)
        if isinstance(source, np.ndarray):
            return decode_array(source, name, reading)
        raise DataError(
            f"{name}: got {type(source).__name__}; give a path, bytes of an image file, a PIL image, a uint8 or uint16 array, "
            "or a list of these"
        )
