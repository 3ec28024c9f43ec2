"""Engines compute what a method predicts; a detector chooses one by its device and by what is installed.

A method states its prediction in PyTorch. An engine computes the same up to rounding: `TorchEngine` calls the method,
`OpenVINOEngine` runs a graph that was compiled for this processor. What a compiled graph predicts is compared with PyTorch before
it is used.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import threading
from collections.abc import Callable

import numpy as np

from adjobs import devices
from adjobs.errors import JobError, one_line
from adjobs.evaluation.evaluate import DeviceConfig
from adjobs.evaluation.predictions import PredictionArrays
from adjobs.inference.drawn import drawn_images
from adjobs.inference.engine_captured import CapturedEngine
from adjobs.inference.engine_contract import ENGINES, Engine, EngineName
from adjobs.inference.engine_torch import TorchEngine
from adjobs.methods.method import Method

log = logging.getLogger(__name__)

# Images of 256 px after which about as much time is lost by not having converted as a conversion takes: for CDO on two cores ten
# seconds, and thirty milliseconds an image. Smaller images take less, a conversion as long: at 128 px 1,300 images are even.
CONVERT_AFTER = 300
CHECK_IMAGES = 4  # of those that were predicted last
# Largest difference from PyTorch, relative to the largest score or to the range of the maps. Rounding is below 1e-5, but some
# methods round features to half precision, and a value near the middle between two of these may go to the other one.
TOLERANCE = 1e-3


class AdaptiveEngine:
    """One engine for the first images, and another from then on, if it predicts the same.

    Several threads may predict at the same time. They wait while the other engine is prepared, because `torch.export` then puts
    tensors without values in the place of the method's weights.

    Args:
        first: needs no preparation.
        build: prepares the other engine, in seconds.
        after: number of images from which on the other engine pays.
    """

    def __init__(self, first: Engine, build: Callable[[], Engine], after: int) -> None:
        self._engine, self._after, self._count = first, after, 0
        self._build: Callable[[], Engine] | None = build
        self._state = threading.Condition()
        self._predicting, self._preparing = 0, False

    def expect(self, count: int) -> None:
        """Say how many images will come. If there are enough, the other engine is prepared at the first of them."""
        with self._state:
            if count >= self._after:
                self._count = count

    def predict(self, images: np.ndarray) -> PredictionArrays:
        """Predict ``(B, S, S, 3)`` uint8 images; the call that completes the first images also prepares the other engine."""
        with self._state:
            self._state.wait_for(lambda: not self._preparing)
            self._predicting += 1
        try:
            predicted = self._engine.predict(images)
        finally:
            with self._state:
                self._predicting -= 1
                self._state.notify_all()
        with self._state:
            self._count += len(images)
            if self._build is None or self._count < self._after:
                return predicted
            build, self._build, self._preparing = self._build, None, True
            self._state.wait_for(lambda: self._predicting == 0)
        try:
            self._engine = checked(build, self._engine, images[-CHECK_IMAGES:])
        finally:
            with self._state:
                self._preparing = False
                self._state.notify_all()
        return predicted


def convert_after(image_size: int) -> int:
    """Number of images of this size, in pixels, for which a conversion pays."""
    return math.ceil(CONVERT_AFTER * (256 / image_size) ** 2)


def create_engine(name: EngineName, method: Method, image_size: int, device_config: DeviceConfig) -> Engine:
    """The engine of a detector.

    Args:
        name: ``torch``, ``openvino``, or ``auto``: on a GPU PyTorch's work captured as CUDA graphs; on a processor with OpenVINO
            installed, PyTorch for the first `convert_after` images and OpenVINO from then on; otherwise PyTorch.
        method: on its device.
        image_size: S.
        device_config: where the method is.

    Raises:
        JobError: unknown name, or OpenVINO is not installed, or not for this device.
    """
    on_cpu, installed = device_config.device.type == "cpu", importlib.util.find_spec("openvino") is not None
    if name not in ENGINES:
        raise JobError(f"engine: got {name!r}, available are {', '.join(ENGINES)}")
    if name == "openvino" and not on_cpu:
        raise JobError(f"engine: openvino computes on processors, the device is {device_config.device}; give device cpu")
    if name == "openvino" and not installed:
        raise JobError("engine: openvino is not installed; run: pip install 'adjobs[openvino]', or give engine auto or torch")
    torch_engine = TorchEngine(method, device_config)
    capturer = devices.capturer(device_config.device)
    if name == "auto" and capturer is not None:
        return CapturedEngine(method, image_size, device_config, capturer)
    if name == "torch" or not (on_cpu and installed):
        return torch_engine

    def build() -> Engine:
        from adjobs.inference.engine_openvino import OpenVINOEngine

        return OpenVINOEngine.of(method, image_size)

    if name == "openvino":
        return checked(build, torch_engine, drawn_images(image_size))
    return AdaptiveEngine(torch_engine, build, convert_after(image_size))


def checked(build: Callable[[], Engine], reference: Engine, images: np.ndarray) -> Engine:
    """The engine that ``build`` makes; ``reference``, with a warning, if it cannot be made or predicts something else."""
    expected = reference.predict(images)
    try:
        engine = build()
        difference = find_difference(expected, engine.predict(images))
    except Exception as error:  # converters and compilers raise many unrelated classes
        difference = f"its graph cannot be made ({one_line(error)[:200]})"
        engine = reference
    if difference is None:
        return engine
    log.warning("the method is computed by PyTorch instead of OpenVINO: %s", difference)
    return reference


def find_difference(expected: PredictionArrays, actual: PredictionArrays) -> str | None:
    """Where two predictions of the same images differ by more than `TOLERANCE`, and by how much; None if they agree.

    Predictions that are not finite never agree: runtimes treat NaN differently.
    """
    scores = {"the score": (expected.score, actual.score)}
    scores |= {f"the score {name}": (values, actual.extra_scores[name]) for name, values in expected.extra_scores.items()}
    for name, (values, others) in scores.items():
        if not _agree(values, others, float(np.abs(values).max())):
            return f"{name} is {_farthest(values, others)}"
    if expected.anomaly_maps is not None and actual.anomaly_maps is not None:
        maps, others = expected.anomaly_maps, actual.anomaly_maps
        if not _agree(maps, others, float(np.ptp(maps)) or float(np.abs(maps).max())):
            return f"a pixel of the anomaly map is {_farthest(maps, others)}"
    return None


def _agree(values: np.ndarray, others: np.ndarray, scale: float) -> bool:
    with np.errstate(invalid="ignore"):
        return bool((np.abs(values - others) <= TOLERANCE * scale).all())  # False where NaN


def _farthest(values: np.ndarray, others: np.ndarray) -> str:
    with np.errstate(invalid="ignore"):
        index = int(np.nan_to_num(np.abs(values - others), nan=np.inf).argmax())
    return f"{others.flat[index]:.6g}, by PyTorch {values.flat[index]:.6g}"
