"""Graphs that another process makes: the same predictions, or a reason; it ends with whoever started it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from adjobs.inference import conversion_process
from adjobs.inference.conversion_process import convert_in_process
from adjobs.inference.detector_folder import save
from adjobs.inference.drawn import drawn_images
from adjobs.inference.torch_detector import TorchDetector
from tests.helpers.detectors import make_manifest
from tests.helpers.tiny import tiny_method

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pytest.importorskip("openvino")
    method, folder = tiny_method("cdo"), tmp_path_factory.mktemp("detector")
    save(folder, method, make_manifest("cdo", method.config.model_dump(mode="json")))
    return folder


def test_graph_predicts_as_the_detector(folder, tmp_path):
    from adjobs.inference.engine_openvino import OpenVINOEngine

    assert convert_in_process(folder, tmp_path / "model.xml", "cpu") is None
    detector = TorchDetector.load(folder, "cpu", "torch")
    images = drawn_images(detector.manifest.image_size)
    expected, engine = detector.predict_arrays(images), OpenVINOEngine(tmp_path / "model.xml")
    (tmp_path / "model.bin").unlink()  # all of it has been read
    actual = engine.predict(images)
    np.testing.assert_allclose(actual.score, expected.score, rtol=1e-4)
    np.testing.assert_allclose(actual.anomaly_maps, expected.anomaly_maps, rtol=1e-3, atol=1e-4)


def test_folder_in_which_it_runs_holds_no_modules(folder, tmp_path, monkeypatch):
    (tmp_path / "adjobs").mkdir()
    (tmp_path / "json.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    assert convert_in_process(folder, tmp_path / "model.xml", "cpu") is None


def test_engines_that_come_and_go_leave_signals_alone(folder, tmp_path):
    """OpenVINO's cores that did so left a stack for signal handlers that existed no more."""
    assert convert_in_process(folder, tmp_path / "model.xml", "cpu") is None
    script = (
        "import signal, sys\n"
        "from adjobs.inference.engine_openvino import OpenVINOEngine as Engine\n"
        "from pathlib import Path\n"
        "first, second = Engine(Path(sys.argv[1])), Engine(Path(sys.argv[1]))\n"
        "del first\n"
        "del second\n"
        "received = []\n"
        "signal.signal(signal.SIGINT, lambda number, frame: received.append(number))\n"
        "signal.raise_signal(signal.SIGINT)\n"
        "print(received)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "model.xml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (0, "[2]\n")


def test_reasons(folder, tmp_path, monkeypatch):
    assert "no-such: cannot be read" in str(convert_in_process(tmp_path / "no-such", tmp_path / "model.xml", "cpu"))
    assert "device: got 'cuda:99'" in str(convert_in_process(folder, tmp_path / "model.xml", "cuda:99"))
    (tmp_path / "file").touch()
    assert "its graph cannot be made" in str(convert_in_process(folder, tmp_path / "file" / "model.xml", "cpu"))
    monkeypatch.setattr(conversion_process, "__name__", "adjobs.no_such_module")
    assert convert_in_process(folder, tmp_path / "model.xml", "cpu") == "the process that makes the graph ended with status 1"


def test_it_ends_with_its_input(folder, tmp_path):
    command = [sys.executable, "-m", "adjobs.inference.conversion_process", str(folder), str(tmp_path / "model.xml")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        answer, _ = process.communicate(timeout=60)
    assert (process.returncode, answer) == (1, b"")
