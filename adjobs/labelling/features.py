"""What images are compared by: features of the network that a detector has anyway."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from adjobs.backbones import Pretrained
from adjobs.data.packing import to_float
from adjobs.inference.torch_detector import TorchDetector

THUMBNAIL = 16  # side in pixels of what stands for an image where a detector has no pretrained network


class FeatureExtractor:
    """Describes images by a detector's own pretrained network, or by a thumbnail where it has none.

    Args:
        detector: whose network is used, the first of several.
    """

    def __init__(self, detector: TorchDetector) -> None:
        modules = detector.method.modules()
        self._network = next((module for module in modules if isinstance(module, Pretrained)), None)
        self._device = detector.device_config.device

    def extract(self, images: np.ndarray) -> np.ndarray:
        """Describe ``(B, S, S, 3)`` uint8 images of the detector's size.

        Returns:
            ``(B, D)`` float32: mean and standard deviation of each channel over the positions of the deepest feature map, or
            the brightness of the thumbnail and its differences to the right and below.
        """
        with torch.inference_mode():
            batch = to_float(images, self._device)
            described = _thumbnails(batch) if self._network is None else _moments(self._network, batch)
        return described.float().cpu().numpy()


def _moments(network: Pretrained, images: Tensor) -> Tensor:
    maps = network(images)
    deepest: Tensor = (maps[-1] if isinstance(maps, list) else maps).float().flatten(2)
    return torch.cat([deepest.mean(2), deepest.std(2, correction=0)], 1)


def _thumbnails(images: Tensor) -> Tensor:
    grey = F.interpolate(images.mean(1, keepdim=True), (THUMBNAIL, THUMBNAIL), mode="bilinear", antialias=True)
    return torch.cat([values.flatten(1) for values in (grey, grey.diff(dim=3), grey.diff(dim=2))], 1)


def standardise(features: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Scale each feature by its mean and spread among reference images.

    Args:
        features: ``(N, D)``.
        reference: ``(M, D)``, at least one image.

    Returns:
        ``(N, D)`` float32. A feature that hardly varies in the reference is scaled by a tenth of the mean spread.
    """
    spread = reference.std(0)
    scale = np.maximum(spread, 0.1 * spread.mean()) if spread.any() else 1.0
    scaled: np.ndarray = ((features - reference.mean(0)) / scale).astype(np.float32)
    return scaled
