"""An exported folder is written whole and checked, or not at all."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from adjobs.errors import JobError, StorageError
from adjobs.evaluation.predictions import ScoreError
from adjobs.inference.export import export as exporting
from adjobs.inference.export.export import export_detector, open_output
from adjobs.inference.exported import load_exported
from adjobs.inference.manifest import MANIFEST_FILE, read_manifest
from adjobs.inference.torch_detector import TorchDetector
from tests.helpers.detectors import Brightness, NotFinite, draw_image, make_manifest
from tests.helpers.tiny import CPU, tiny_method

pytestmark = pytest.mark.slow


@pytest.fixture
def images(tmp_path):
    return [draw_image(tmp_path / "images", f"{level}.png", (40, 20, 90, 70), brightness=level) for level in (40, 120, 200, 255)]


def detector(method=None, **manifest) -> TorchDetector:
    manifest = {"threshold": 0.65, "pixel": 0.65, "map_floor": 0.1} | manifest
    return TorchDetector(method or Brightness(), make_manifest(**manifest), CPU, "torch")


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_export_detector_folder_predicts_what_the_detector_does(format, images, tmp_path):
    original, out = detector(), tmp_path / "out"
    result = export_detector(original, format, open_output(out, format), images)
    assert sorted(path.name for path in out.iterdir() if not path.name.startswith(".")) == sorted(
        [*exporting.FILES[format], "README.md", MANIFEST_FILE]
    )
    assert result.agreement.images == 4
    assert result.agreement.changed_decisions == 0
    assert json.loads(json.dumps(result.to_dict()))["format"] == format
    exported = load_exported(out)
    for expected, actual in zip(original(list(images)), exported(list(images)), strict=True):
        assert actual.score == pytest.approx(expected.score, rel=1e-6)
        assert (actual.decision, actual.regions) == (expected.decision, expected.regions)
        assert np.allclose(actual.anomaly_map, expected.anomaly_map, atol=1e-5)
    assert {prediction.decision for prediction in exported(list(images))} == {"normal", "anomalous"}


def test_export_detector_again_replaces_its_own_files_only(images, tmp_path):
    out = tmp_path / "out"
    for threshold in (0.6, 0.7):
        export_detector(detector(threshold=threshold), "onnx", open_output(out, "onnx"), images)
    assert load_exported(out).threshold == 0.7
    with pytest.raises(StorageError, match="holds a detector exported for onnx; choose another folder"):
        open_output(out, "openvino")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "README.md").write_text("mine")
    with pytest.raises(StorageError, match="exists and was not written by 'adjobs export'"):
        open_output(tmp_path / "other", "onnx")


def test_export_detector_that_differs_writes_nothing_and_says_where(images, tmp_path, monkeypatch):
    original = exporting.make_network

    def distort(method, image_size):
        network = original(method, image_size)
        convolution = next(node for node in network.graph.node if node.op_type == "Conv")
        weights = next(tensor for tensor in network.graph.initializer if tensor.name == convolution.input[1])
        weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights) * np.float32(1.5), weights.name))
        return network

    monkeypatch.setattr(exporting, "make_network", distort)
    original_detector = detector(tiny_method("cdo").eval())
    where = r"image .*40\.png: .*; the first operation that differs: \w+ \(aten\.\w*batch_norm\S*\) is"
    with pytest.raises(JobError, match=f"differs from PyTorch, nothing is written: {where}") as caught:
        export_detector(original_detector, "onnx", open_output(tmp_path / "out", "onnx"), images)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_export_detector_method_that_cannot_be_exported_is_one_line(images, tmp_path):
    class Unconvertible(Brightness):
        def predict(self, images):
            if images.mean().item() < 0:
                raise AssertionError("images are at least 0")
            return super().predict(images)

    with pytest.raises(JobError, match=r"cdo: cannot be exported .* predict with PyTorch instead") as caught:
        export_detector(detector(Unconvertible()), "onnx", open_output(tmp_path / "out", "onnx"), images)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_export_detector_scores_that_are_not_finite_are_refused(images, tmp_path):
    with pytest.raises(ScoreError, match=r"png \(by PyTorch\).*NaN"):
        export_detector(detector(NotFinite(float("nan"))), "onnx", open_output(tmp_path / "out", "onnx"), images)
    assert not (tmp_path / "out").exists()


def test_export_detector_model_stands_alone(images, tmp_path):
    export_detector(detector(), "onnx", open_output(tmp_path / "out", "onnx"), images)
    model = onnx.load_model(tmp_path / "out" / "model.onnx")
    assert not [tensor for tensor in model.graph.initializer if tensor.external_data]
    assert {domain.domain for domain in model.opset_import} == {""}
    text = (tmp_path / "out" / "README.md").read_text()
    assert "`defect_mask` | 1, 64, 64 | bool" in text
    assert "{" not in text.replace('{"image": image}', "")
    assert read_manifest(tmp_path / "out").graph.versions.keys() == {"torch", "onnx", "onnxruntime"}
