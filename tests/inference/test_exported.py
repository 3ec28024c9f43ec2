"""Exported folders: what is loaded, and what is refused in one line."""

from __future__ import annotations

import json
import shutil

import pytest

from adjobs import api
from adjobs.errors import JobError, StorageError
from adjobs.inference import engine_exported
from adjobs.inference.export.export import export_detector, open_output
from adjobs.inference.exported import digests, load_exported
from adjobs.inference.loading import load
from adjobs.inference.torch_detector import TorchDetector
from tests.helpers.detectors import Brightness, draw_image, make_manifest
from tests.helpers.tiny import CPU

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    image = draw_image(folder / "images", "a.png", (40, 20, 90, 70))
    detector = TorchDetector(Brightness(), make_manifest(threshold=0.65, pixel=0.65), CPU, "torch")
    outputs = {format: open_output(folder / format, format) for format in ("onnx", "openvino")}
    return {format: export_detector(detector, format, outputs[format], [image]).folder for format in outputs}


@pytest.fixture
def folder(exported, tmp_path):
    return shutil.copytree(exported["onnx"], tmp_path / "copy")


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_load_takes_exported_folders(exported, format):
    detector = load(exported[format])
    assert not isinstance(detector, TorchDetector)
    assert (detector.batch_size, detector.concurrent_batches) == (4, 1)
    assert api.load_detector(exported[format]).manifest.graph.format == format


def test_load_exported_damaged_file_is_refused(folder):
    content = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(content[:-1] + b"?")
    with pytest.raises(StorageError, match=r"model\.onnx is not the file that was exported; restore the folder"):
        load(folder)
    (folder / "model.onnx").unlink()
    with pytest.raises(StorageError, match=r"cannot be read \(.*model\.onnx"):
        load(folder)


@pytest.mark.parametrize("name", ["../model.onnx", "/etc/passwd", "model", "a/b.onnx", ""])
def test_load_exported_files_outside_the_folder_are_refused(folder, name):
    document = json.loads((folder / "detector.json").read_text())
    document["graph"]["files"] = {name: "0" * 64}
    (folder / "detector.json").write_text(json.dumps(document))
    with pytest.raises(StorageError, match=r"detector\.json: graph\.files"):
        load(folder)


def test_load_exported_what_is_no_model_is_one_line(folder):
    (folder / "model.onnx").write_bytes(b"no model")
    document = json.loads((folder / "detector.json").read_text())
    document["graph"]["files"] = digests(folder, ["model.onnx"])
    (folder / "detector.json").write_text(json.dumps(document))
    with pytest.raises(StorageError, match=r"cannot predict \(.*export it again") as caught:
        load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "cuda"}, "device: got 'cuda'; exported detectors are computed on processors: give auto or cpu"),
        ({"engine": "torch"}, "engine: got 'torch'; detector .* was exported for onnx: give auto"),
    ],
)
def test_load_exported_other_device_or_engine_is_refused(folder, options, message):
    with pytest.raises(JobError, match=message):
        load_exported(folder, **options)


def test_load_exported_without_its_runtime_says_what_to_install(folder, monkeypatch):
    monkeypatch.setattr(engine_exported.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(JobError, match=r"onnxruntime is not installed; run: pip install 'adjobs\[edge\]'"):
        load_exported(folder)


def test_torch_detector_exported_folder_is_refused(folder):
    with pytest.raises(StorageError, match="was exported for onnx and has no weights for PyTorch"):
        TorchDetector.load(folder)
