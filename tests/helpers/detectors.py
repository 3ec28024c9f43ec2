"""Detectors that need no training: their scores are known from their images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from adjobs.inference.manifest import Manifest
from adjobs.inference.torch_detector import TorchDetector
from adjobs.methods.method import Method
from adjobs.metrics.pixel_threshold import PixelThreshold
from adjobs.metrics.threshold import Threshold
from adjobs.types import Prediction

SIDE = 64


class Brightness(Method):
    """The anomaly map is the image's brightness, the score that of the brightest pixel; or there is no map."""

    def __init__(self, gives_map: bool = True) -> None:
        super().__init__()
        self.gives_map = gives_map

    def stages(self):
        return []

    def forward(self, batch):
        raise AssertionError("not trained")

    def predict(self, images: torch.Tensor) -> Prediction:
        grey = images.mean(1, keepdim=True)
        return Prediction(grey.amax((1, 2, 3)), grey if self.gives_map else None)


class NotFinite(Brightness):
    """Images with a white pixel have a score, or only a map, that is not finite."""

    def __init__(self, value: float, *, score: bool = True) -> None:
        super().__init__()
        self.value, self.score = value, score

    def predict(self, images: torch.Tensor) -> Prediction:
        score, maps, _ = super().predict(images)
        maps = torch.where(maps == 1, self.value, maps)
        return Prediction(torch.where(score == 1, self.value, score) if self.score else score, maps)


def image_threshold(value: float = 0.5) -> Threshold:
    """A fixed threshold that was chosen without images."""
    return Threshold("fixed", value, value, 0, 0, 0, None, None, 0.95, 0)


def pixel_threshold(value: float) -> PixelThreshold:
    """A fixed threshold for pixels that was chosen without images."""
    return PixelThreshold("fixed", value, value, 0, 0, None, 0, None, None, None, 0.95)


def make_manifest(
    method: str = "cdo",
    params: dict[str, Any] | None = None,
    image_size: int = SIDE,
    threshold: float = 0.5,
    pixel: float | None = None,
    **fields: Any,
) -> Manifest:
    """A manifest with fixed thresholds."""
    return Manifest(
        method=method,
        params=params or {},
        image_size=image_size,
        threshold=image_threshold(threshold),
        pixel_threshold=None if pixel is None else pixel_threshold(pixel),
        data_fingerprint="0" * 64,
        **fields,
    )


def brightness_detector(
    gives_map: bool = True, pixel: float | None = 0.5, image: float = 0.8, method: Method | None = None, **fields: Any
) -> TorchDetector:
    """A detector whose score is the brightness of the brightest pixel, or that of another method."""
    manifest = make_manifest(threshold=image, pixel=pixel, map_floor=0.1, **fields)
    return TorchDetector(Brightness(gives_map) if method is None else method, manifest, torch.device("cpu"))


def draw_image(folder: Path, name: str, *boxes: tuple[int, int, int, int], brightness: int = 255, size=(160, 96)) -> Path:
    """A dark image with bright rectangles."""
    pixels = np.full((size[1], size[0], 3), 30, np.uint8)
    for left, top, right, bottom in boxes:
        pixels[top:bottom, left:right] = brightness
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    Image.fromarray(pixels).save(path)
    return path
