"""A trained model outside training: images in, scores, decisions, anomaly maps and regions out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self, overload

import numpy as np
import torch
from PIL import Image

from adjobs import devices
from adjobs.data.images import DecodedImage, decode_array, decode_details, decode_opened, stretch
from adjobs.errors import DataError, JobError, StorageError, one_line
from adjobs.evaluation.evaluate import EVAL_BATCH, DeviceConfig, PredictionArrays, check_finite
from adjobs.inference.detector_folder import Manifest, load_method, read_manifest
from adjobs.inference.engine import AdaptiveEngine, create_engine
from adjobs.inference.engine_contract import EngineName
from adjobs.inference.regions import Region, find_regions
from adjobs.methods.method import Method

ImageInput = str | Path | bytes | Image.Image | np.ndarray
"""What can be predicted: a path, the bytes of an image file, a PIL image, or a uint8 or uint16 array."""


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
    """A loaded detector.

    Attributes:
        method: with its weights, on the device, in evaluation mode.
        device_config: where and how precisely it runs.
        manifest: what its folder says.
    """

    def __init__(self, method: Method, manifest: Manifest, device: torch.device, engine: EngineName = "auto") -> None:
        self.method = method.to(device).to(memory_format=torch.channels_last).eval()
        self.device_config = DeviceConfig(device)
        self.manifest = manifest
        self._engine = create_engine(engine, self.method, manifest.image_size, self.device_config)

    @classmethod
    def load(cls, folder: Path, device: str = "auto", engine: EngineName = "auto") -> Self:
        """Read a folder that :func:`adjobs.inference.detector_folder.save` wrote.

        Args:
            folder: the folder.
            device: ``auto`` (a GPU where there is one), or a torch device.
            engine: what computes: ``torch``, ``openvino`` (on processors; compiled now, in seconds), or ``auto``; see
                :func:`adjobs.inference.engine.create_engine`.

        Raises:
            StorageError: the folder holds no detector, one of another format, or one that was damaged.
            JobError: the device or the engine is not available.
        """
        torch_device = resolve_device(device)
        manifest = read_manifest(folder)
        method = load_method(folder, manifest)
        noise = np.random.default_rng(0).integers(0, 256, (1, manifest.image_size, manifest.image_size, 3), np.uint8)
        try:  # better now than at the first image: stored indices may be out of range, or a memory bank empty
            detector = cls(method, manifest, torch_device, engine)
            detector.predict_arrays(noise)
        except (RuntimeError, MemoryError, ValueError, TypeError, ArithmeticError, LookupError) as error:
            raise StorageError(
                f"detector {folder}: cannot predict ({one_line(error)}); give a run or model that adjobs logged"
            ) from error
        return detector

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

    def expect(self, count: int) -> None:
        """Say how many images will be predicted, so that an engine that pays for so many is prepared at the first of them."""
        if isinstance(self._engine, AdaptiveEngine):
            self._engine.expect(count)

    def predict_arrays(self, images: np.ndarray) -> PredictionArrays:
        """Predict ``(B, S, S, 3)`` uint8 images of the detector's own size."""
        return self._engine.predict(images)

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


def resolve_device(name: str) -> torch.device:
    """The device of this name; ``auto`` is a GPU where there is one.

    Raises:
        JobError: the device is not available.
    """
    if name == "auto":
        return devices.automatic_device()
    gpus = devices.gpu_names()
    try:
        device = torch.device(name)
        torch.ones(1, device=device).item()  # fails without that hardware, and on "meta", which computes nothing
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        cause = one_line(error).partition(". ")[0]
        raise JobError(f"device: got {name!r}, available here are {', '.join(['auto', 'cpu', *gpus])} ({cause[:120]})") from error
    return device
