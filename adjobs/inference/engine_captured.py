"""Predictions on a GPU as CUDA graphs: one image costs hundreds of operations, and launching them takes longer than they do."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from adjobs import devices
from adjobs.data.packing import scale
from adjobs.evaluation.evaluate import DeviceConfig, evaluation_mode, to_arrays
from adjobs.evaluation.predictions import PredictionArrays
from adjobs.methods.method import Method
from adjobs.types import Prediction

log = logging.getLogger(__name__)

SIZES = (1, 4, 16)
"""Batches that are captured, each when it first comes; others are filled up with copies of their last image, or cut."""


class _Captured(NamedTuple):
    images: Tensor  # (size, S, S, 3) uint8, filled before each repetition
    prediction: Prediction
    work: devices.Captured


class CapturedEngine:
    """A method's prediction for batches of a few sizes, each captured once.

    Args:
        method: on the device of ``device_config``, in evaluation mode; its weights must stay as they are.
        image_size: S.
        device_config: device and precision.
        capturer: of the device.
    """

    def __init__(self, method: Method, image_size: int, device_config: DeviceConfig, capturer: devices.Capturer) -> None:
        self._method, self._image_size, self._device_config = method, image_size, device_config
        self._capturer: devices.Capturer | None = capturer
        self._captured: dict[int, _Captured] = {}
        self._lock = threading.Lock()  # a graph writes its results to one place

    def predict(self, images: np.ndarray) -> PredictionArrays:
        """Predict ``(B, S, S, 3)`` uint8 images."""
        chunks = [images[start : start + SIZES[-1]] for start in range(0, len(images), SIZES[-1])]
        with self._lock, evaluation_mode(self._method):
            return join([self._predict_chunk(chunk) for chunk in chunks])

    def _predict_chunk(self, images: np.ndarray) -> PredictionArrays:
        count = len(images)
        size = next(size for size in SIZES if size >= count)
        filled = np.concatenate([images, np.repeat(images[-1:], size - count, axis=0)]) if size > count else images
        tensor = torch.from_numpy(np.require(filled, requirements="W")).to(self._device_config.device)
        return first(to_arrays(self.compute(tensor)), count)

    def compute(self, images: Tensor) -> Prediction:
        """Predict ``(B, S, S, 3)`` uint8 images on the device, B one of `SIZES`; the result is overwritten by the next call."""
        size = len(images)
        if size not in self._captured and self._capturer is not None:
            self._capture(self._capturer, size)
        captured = self._captured.get(size)
        if captured is None:
            return self._compute(images)
        captured.images.copy_(images)
        captured.work.replay()
        return captured.prediction

    def _compute(self, images: Tensor) -> Prediction:
        with self._device_config.autocasting():
            return self._method.predict(scale(images))

    def _capture(self, capturer: devices.Capturer, size: int) -> None:
        """Capture predictions of batches of this size; without that, they are launched one operation at a time."""
        images = torch.zeros(size, self._image_size, self._image_size, 3, dtype=torch.uint8, device=self._device_config.device)
        predictions: list[Prediction] = []

        def work() -> None:
            predictions[:] = [self._compute(images)]

        work()  # what libraries choose at their first call may wait for the GPU
        reason = capturer.warm_up(work)
        try:
            captured = None if reason else capturer.capture(work)
        except RuntimeError as error:
            captured, reason = None, str(error).partition("\n")[0]
        if captured is None:
            self._capturer = None
            log.warning("predictions are not captured as CUDA graphs, which is slower: %s", reason)
        else:
            self._captured[size] = _Captured(images, predictions[0], captured)


def first(arrays: PredictionArrays, count: int) -> PredictionArrays:
    """The predictions of the first ``count`` images."""
    maps = None if arrays.anomaly_maps is None else arrays.anomaly_maps[:count]
    return PredictionArrays(arrays.score[:count], maps, {name: values[:count] for name, values in arrays.extra_scores.items()})


def join(predicted: list[PredictionArrays]) -> PredictionArrays:
    """The predictions of several batches as those of one."""
    if len(predicted) == 1:
        return predicted[0]
    maps = [each.anomaly_maps for each in predicted if each.anomaly_maps is not None]
    extra_scores: Mapping[str, list[np.ndarray]] = {
        name: [each.extra_scores[name] for each in predicted] for name in predicted[0].extra_scores
    }
    return PredictionArrays(
        np.concatenate([each.score for each in predicted]),
        np.concatenate(maps) if maps else None,
        {name: np.concatenate(values) for name, values in extra_scores.items()},
    )
