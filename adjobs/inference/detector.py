"""A trained model outside training: a folder with the weights, and with everything that turns an image into a decision.

The folder holds ``weights.safetensors`` and ``detector.json``. No pickle: loading a
model does not mean trusting the bucket it came from.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self, overload

import numpy as np
import torch
from PIL import Image
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from adjobs import methods
from adjobs.data.images import RESIZE_RULE, decode, stretch, to_upright
from adjobs.errors import DataError, StorageError, one_line
from adjobs.evaluation.evaluate import EVAL_BATCH, DeviceConfig, PredictionArrays, evaluation_mode, predict_images
from adjobs.inference.regions import Region, find_regions
from adjobs.methods.method import Method

FORMAT = 1
MANIFEST_FILE = "detector.json"

ImageInput = str | Path | bytes | Image.Image | np.ndarray
"""What can be predicted: a path, the bytes of an image file, a PIL image, or a uint8 array."""


@dataclass(frozen=True)
class Manifest:
    """What ``detector.json`` says.

    Attributes:
        method: its name.
        params: its resolved parameters.
        image_size: images are resized to this square, by ``resize_rule``.
        threshold: as :meth:`adjobs.metrics.threshold.Threshold.to_dict` gives it; ``value`` decides.
        data_fingerprint: of the data set that it was trained on.
        map_floor: median of the anomaly map over normal validation pixels, where heat maps start; None without anomaly maps.
        pixel_threshold: as :meth:`adjobs.metrics.pixel_threshold.PixelThreshold.to_dict` gives it; None without anomaly maps.
        normal_train_digest: of the normal images that it was trained on, from
            :func:`adjobs.data.splits.assignment.normal_train_digest`; None where unknown.
        resize_rule: see :mod:`adjobs.data.images`.
        format: of this file.
    """

    method: str
    params: dict[str, Any]
    image_size: int
    threshold: dict[str, Any]
    data_fingerprint: str
    map_floor: float | None = None
    pixel_threshold: dict[str, Any] | None = None
    normal_train_digest: str | None = None
    resize_rule: str = RESIZE_RULE
    format: int = FORMAT


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
    """

    score: float
    threshold: float
    decision: Literal["normal", "anomalous"]
    anomaly_map: np.ndarray | None = None
    defect_mask: np.ndarray | None = None
    regions: tuple[Region, ...] = ()
    region_mask: np.ndarray | None = None

    @property
    def defect_area(self) -> float | None:
        """Share of the pixels that reach the pixel threshold, in [0, 1]; None without anomaly maps."""
        return None if self.defect_mask is None else float(self.defect_mask.mean())


def save(folder: Path, method: Method, manifest: Manifest) -> None:
    """Write a detector's folder; the manifest last."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {key: tensor.detach().cpu().contiguous() for key, tensor in method.state_dict().items()},
        folder / "weights.safetensors",
    )
    write_manifest(folder, manifest)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write or replace what a detector's folder says of its weights."""
    (folder / MANIFEST_FILE).write_text(json.dumps(asdict(manifest), indent=2))


def read_manifest(folder: Path) -> Manifest:
    """What a detector's folder says of its weights.

    Raises:
        StorageError: the folder holds no detector, or one of another format.
    """
    try:
        manifest = Manifest(**json.loads((folder / MANIFEST_FILE).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise _unreadable(folder, error) from error
    if manifest.format != FORMAT or manifest.resize_rule != RESIZE_RULE:
        raise StorageError(
            f"detector {folder}: format {manifest.format}, resize rule {manifest.resize_rule}; this version reads format "
            f"{FORMAT}, {RESIZE_RULE}; use the adjobs version that trained it"
        )
    return manifest


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """The state of a detector's method, by name.

    Raises:
        StorageError: the folder holds no detector.
    """
    try:
        return dict(load_file(folder / "weights.safetensors"))
    except (OSError, ValueError, SafetensorError) as error:
        raise _unreadable(folder, error) from error


class Detector:
    """A loaded detector.

    Attributes:
        method: with its weights, on the runner's device.
        runner: where it runs.
        manifest: what its folder said.
    """

    def __init__(self, method: Method, manifest: Manifest, device: torch.device) -> None:
        self.method = method.to(device).to(memory_format=torch.channels_last).eval()
        self.device_config = DeviceConfig(device)
        self.manifest = manifest

    @classmethod
    def load(cls, folder: Path, device: str = "auto") -> Self:
        """Read a folder that ``save`` wrote.

        Args:
            folder: the folder.
            device: ``auto`` (a GPU where there is one), or a torch device.

        Raises:
            StorageError: the folder holds no detector, or one of another format.
        """
        manifest, weights = read_manifest(folder), read_weights(folder)
        loaded = methods.load(manifest.method)
        # All weights are in the folder; nothing is to be downloaded only to be overwritten.
        offline = {"weights": "none"} if "weights" in loaded.config.model_fields else {}
        try:
            config = loaded.config(**{**manifest.params, **offline})
        except ValidationError as error:
            raise StorageError(
                f"detector {folder}: parameters that {manifest.method} does not have here ({one_line(error)[:120]}); "
                "use the adjobs version that trained it"
            ) from error
        method = loaded.build(config, image_size=manifest.image_size, seed=0)
        method.load_state_dict(weights)
        return cls(method, manifest, torch.device(_default_device() if device == "auto" else device))

    @property
    def threshold(self) -> float:
        """An image is called anomalous when its score is at least this."""
        return float(self.manifest.threshold["value"])

    @property
    def pixel_threshold(self) -> float | None:
        """A pixel is defective when the anomaly map is at least this; None for methods without anomaly maps."""
        stored = self.manifest.pixel_threshold
        return None if stored is None else float(stored["value"])

    @overload
    def __call__(self, images: ImageInput) -> ImagePrediction: ...

    @overload
    def __call__(self, images: list[ImageInput] | tuple[ImageInput, ...]) -> list[ImagePrediction]: ...

    def __call__(self, images: ImageInput | list[ImageInput] | tuple[ImageInput, ...]) -> ImagePrediction | list[ImagePrediction]:
        """Predict one image or several.

        Args:
            images: a path, the bytes of an image file, a PIL image, or a ``(H, W)`` or ``(H, W, 3)`` uint8 array; or a list of
                these. They are stretched to the detector's size as in training.

        Returns:
            A prediction for one image, a list for several, in their order.

        Raises:
            DataError: not an image, truncated or too large, or an array of another type or shape.
        """
        if isinstance(images, ImageInput):
            return self._predict([images])[0]
        return [
            prediction
            for start in range(0, len(images), EVAL_BATCH)
            for prediction in self._predict(images[start : start + EVAL_BATCH])
        ]

    def _predict(self, images: Sequence[ImageInput]) -> list[ImagePrediction]:
        """Predict one batch; regions are found in the pixels of each image."""
        decoded = [read_image(image) for image in images]
        arrays = self.predict_arrays(np.stack([stretch(image, self.manifest.image_size) for image in decoded]))
        maps: list[np.ndarray | None] = [None] * len(images) if arrays.anomaly_maps is None else list(arrays.anomaly_maps)
        return [
            self._decide(float(score), anomaly_map, image.size)
            for score, anomaly_map, image in zip(arrays.score, maps, decoded, strict=True)
        ]

    def _decide(self, score: float, anomaly_map: np.ndarray | None, size: tuple[int, int]) -> ImagePrediction:
        decision: Literal["normal", "anomalous"] = "anomalous" if score >= self.threshold else "normal"
        if anomaly_map is None or self.pixel_threshold is None:
            return ImagePrediction(score, self.threshold, decision, anomaly_map)
        defect_mask = anomaly_map >= self.pixel_threshold
        if decision == "normal":
            return ImagePrediction(score, self.threshold, decision, anomaly_map, defect_mask)
        regions, region_mask = find_regions(defect_mask, size)
        return ImagePrediction(score, self.threshold, decision, anomaly_map, defect_mask, regions, region_mask)

    def predict_arrays(self, images: np.ndarray) -> PredictionArrays:
        """Predict ``(B, S, S, 3)`` uint8 images of the detector's own size, all in one batch."""
        with evaluation_mode(self.method):
            return predict_images(self.method, images, self.device_config)


def read_image(source: ImageInput) -> Image.Image:
    """An image upright, in mode L or RGB with 8 bits.

    Raises:
        DataError: not an image, truncated or too large, or an array of another type or shape.
    """
    if isinstance(source, str | Path):
        return decode(Path(source))
    if isinstance(source, bytes):
        return decode(source)
    if isinstance(source, Image.Image):
        return to_upright(source, "image")
    is_image = source.ndim == 2 or (source.ndim == 3 and source.shape[2] in (1, 3))
    if source.dtype != np.uint8 or not is_image or 0 in source.shape:
        raise DataError(f"array: got {source.dtype} of shape {source.shape}; give uint8 of shape (H, W) or (H, W, 3)")
    return Image.fromarray(source[..., 0] if source.ndim == 3 and source.shape[2] == 1 else source)


def _unreadable(folder: Path, error: Exception) -> StorageError:
    return StorageError(f"detector {folder}: cannot be read ({one_line(error)}); give a run or model that adjobs logged")


def _default_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
