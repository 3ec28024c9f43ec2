"""What an image looks like, whatever the method of its detector: simple statistics, and features of a pretrained network."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from scipy import ndimage

from adjobs.backbones import SMALLEST, create_backbone, has_packaged_weights
from adjobs.data.packing import to_float
from adjobs.metrics.inputs import Floats

FEATURE_SIZE = 224
"""Side of the images that the network sees, in pixels; its weights were trained at this size."""

_MAX_SIDE = 2048  # pixels; larger images are reduced, so that their statistics cost no more than their decoding
_WHITE = 254  # grey levels from which a pixel counts as overexposed


class Statistic(NamedTuple):
    """A simple statistic: its name, and its unit, or ""."""

    name: str
    unit: str


STATISTICS = (
    Statistic("brightness", "grey levels"),  # mean
    Statistic("contrast", "grey levels"),  # standard deviation
    Statistic("sharpness", "grey levels"),  # standard deviation of the Laplacian
    Statistic("overexposed", "%"),
    Statistic("red cast", "grey levels"),  # mean of red minus green
    Statistic("blue cast", "grey levels"),  # mean of blue minus green
    Statistic("horizontal centre", "% of the width"),  # of gravity of the grey levels
    Statistic("vertical centre", "% of the height"),
    Statistic("size", "megapixels"),
)
"""Of an image, in the order of :func:`simple_statistics`. Grey levels are 0 to 255."""


def simple_statistics(image: Image.Image) -> Floats:
    """The `STATISTICS` of a decoded image in mode L or RGB, ``(9,)``."""
    megapixels = image.width * image.height / 1e6
    if max(image.size) > _MAX_SIDE:
        image = image.reduce(-(-max(image.size) // _MAX_SIDE))
    grey = np.asarray(image.convert("L"), np.float32)
    red, green, blue = np.asarray(image.convert("RGB")).reshape(-1, 3).mean(0)
    total = max(1.0, float(grey.sum(dtype=np.float64)))
    height, width = grey.shape
    x = grey.sum(0, dtype=np.float64) @ (np.arange(width) + 0.5) / (total * width)
    y = grey.sum(1, dtype=np.float64) @ (np.arange(height) + 0.5) / (total * height)
    values = (
        grey.mean(dtype=np.float64),
        grey.std(dtype=np.float64),
        ndimage.laplace(grey, mode="nearest").std(dtype=np.float64),
        100 * (grey >= _WHITE).mean(),
        red - green,
        blue - green,
        100 * x,
        100 * y,
        megapixels,
    )
    return np.array(values, dtype=np.float64)


def has_features() -> bool:
    """Whether the pretrained network of :class:`FeatureExtractor` is installed."""
    return has_packaged_weights(SMALLEST)


class FeatureExtractor:
    """Mean and standard deviation of each channel of the first three levels of the packaged network.

    Early levels see texture, noise and sharpness, later ones shapes; the last ones, trained to tell animals apart, are left out.

    Raises:
        DataError: the package is not installed, or is another version.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._network = create_backbone(SMALLEST, "packaged").to(device).eval()

    def __call__(self, images: np.ndarray) -> Floats:
        """Features ``(B, F)`` of images ``(B, S, S, 3)`` uint8, S being `FEATURE_SIZE`."""
        with torch.inference_mode():
            levels = self._network(to_float(images, self._device))
            pooled = [statistic for level in levels for statistic in (level.mean((2, 3)), level.std((2, 3)))]
            return torch.cat(pooled, 1).double().cpu().numpy()
