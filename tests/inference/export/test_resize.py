"""The resize inside exported models gives exactly the grey levels of Pillow's."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

from adjobs.data.images import stretch
from adjobs.inference.export.resize import IMAGE, resize_model

SIZES = [(64, 64), (97, 131), (131, 97), (300, 200), (128, 256), (20, 30), (1, 1), (9000, 3), (3, 9000), (63, 65)]
SIDE = 64


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    model = resize_model(SIDE)
    onnx.checker.check_model(model, full_check=True)
    return model


def onnx_runtime(model):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return lambda image: session.run(None, {IMAGE: image})[0]


def open_vino(model):
    from adjobs.inference.openvino_core import CORE

    compiled = CORE.compile_model(CORE.read_model(model.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda image: compiled([image])[0]


@pytest.mark.parametrize("runtime", [onnx_runtime, open_vino])
def test_resize_model_gives_the_levels_of_stretch(model, runtime):
    rng, resize = np.random.default_rng(0), runtime(model)
    for width, height in SIZES:
        image = rng.integers(0, 256, (height, width, 3), np.uint8)
        resized = resize(image[None])
        assert resized.dtype == np.uint8
        assert np.array_equal(resized[0], stretch(Image.fromarray(image), SIDE)), (width, height)


@pytest.mark.parametrize("runtime", [onnx_runtime, open_vino])
def test_resize_model_image_of_its_size_is_not_changed(model, runtime):
    image = np.random.default_rng(1).integers(0, 256, (1, SIDE, SIDE, 3), np.uint8)
    assert (runtime(model)(image) == image).all()
