"""Predictions as the method itself computes them, on every device that PyTorch supports."""

from __future__ import annotations

import numpy as np

from adjobs.evaluation.evaluate import DeviceConfig, evaluation_mode, predict_images
from adjobs.evaluation.predictions import PredictionArrays
from adjobs.methods.method import Method


class TorchEngine:
    """Calls `Method.predict`; every batch size is computed as one batch.

    Args:
        method: on the device of ``device_config``.
        device_config: device and precision.
    """

    def __init__(self, method: Method, device_config: DeviceConfig) -> None:
        self._method, self._device_config = method, device_config

    def predict(self, images: np.ndarray) -> PredictionArrays:
        """Predict ``(B, S, S, 3)`` uint8 images."""
        with evaluation_mode(self._method):
            return predict_images(self._method, images, self._device_config)
