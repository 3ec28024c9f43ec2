"""Methods as ONNX models: every method, in both runtimes; thresholds in float32."""

from __future__ import annotations

import json
import math

import numpy as np
import onnx
import onnxruntime
import pytest

from adjobs import methods
from adjobs.evaluation.evaluate import DeviceConfig
from adjobs.inference.drawn import drawn_images
from adjobs.inference.engine import find_difference
from adjobs.inference.engine_exported import ExportedEngine
from adjobs.inference.engine_torch import TorchEngine
from adjobs.inference.export.export import save_model
from adjobs.inference.export.graph import add_decisions, add_preprocessing, float32_threshold, make_network
from tests.helpers.detectors import SIDE, Brightness, make_manifest
from tests.helpers.tiny import CPU, tiny_method


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "params"),
    [*((name, {}) for name in methods.names()), ("cdo", {"distance": "nearest"}), ("slsg", {"pretrain": "backbone"})],
)
def test_make_network_every_method_predicts_the_same_in_both_runtimes(name, params, tmp_path):
    method, manifest = tiny_method(name, **params).eval(), make_manifest(name, pixel=0.5)
    images = drawn_images(SIDE)
    expected = TorchEngine(method, DeviceConfig(CPU)).predict(images)
    network = make_network(method, SIDE)
    for format in ("onnx", "openvino"):
        path = save_model(network_copy(network), manifest, format, tmp_path)
        for size in (SIDE, None):
            actual = ExportedEngine(path, format, size).predict(images)
            assert find_difference(expected._replace(extra_scores={}), actual) is None, (format, size)
            assert (actual.anomaly_maps is None) == (expected.anomaly_maps is None)
            assert actual.score.dtype == np.float64


def network_copy(network: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(network)
    return copy


@pytest.mark.slow
def test_make_network_leaves_the_method_as_it_was():
    method = Brightness().train()
    make_network(method, SIDE)
    assert method.training


@pytest.mark.slow
@pytest.mark.parametrize(("threshold", "pixel"), [(0.25, 0.5), (0.75, None)])
def test_add_decisions_outputs_follow_the_thresholds(threshold, pixel):
    manifest = make_manifest(threshold=threshold, pixel=pixel)
    model = add_preprocessing(make_network(Brightness(), SIDE), SIDE)
    add_decisions(model, manifest)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    names = [output.name for output in session.get_outputs()]
    assert names == ["score", "anomalous", "anomaly_map", "defect_mask"][: 3 if pixel is None else 4]
    image = np.full((1, SIDE, SIDE, 3), 128, np.uint8)
    image[:, : SIDE // 2] = 0
    results = dict(zip(names, session.run(names, {"image": image}), strict=True))
    assert results["anomalous"].tolist() == [bool(results["score"][0] >= threshold)]
    assert results["anomaly_map"].shape == (1, SIDE, SIDE)
    if pixel is not None:
        assert (results["defect_mask"] == (results["anomaly_map"] >= pixel)).all()
        assert 0 < results["defect_mask"].mean() < 1
    metadata = json.loads(session.get_modelmeta().custom_metadata_map["adjobs"])
    assert metadata["threshold"]["value"] == threshold


@pytest.mark.parametrize("value", [0.1, 0.5, 1 / 3, 1e-30, -0.1, 3e8 + 0.25, math.nextafter(0.5, 1), 0.0])
def test_float32_threshold_decides_as_the_exact_one(value):
    rounded = float32_threshold(value)
    near = np.float32(value)
    scores = [np.nextafter(near, np.float32(side)) for side in (-math.inf, math.inf)] + [near, rounded]
    assert [bool(score >= rounded) for score in scores] == [float(score) >= value for score in scores]
