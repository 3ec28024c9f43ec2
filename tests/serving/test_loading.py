"""Models that are loaded to be served: by OpenVINO without PyTorch in this process, or as others load them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from adjobs.inference import conversion_process, loading
from adjobs.inference.detector_folder import save
from adjobs.serving.loading import load_to_serve
from tests.helpers.detectors import make_manifest
from tests.helpers.tiny import tiny_method

pytest.importorskip("openvino")


@pytest.fixture
def folder(tmp_path):
    method = tiny_method("cdo")
    save(tmp_path / "detector", method, make_manifest("cdo", method.config.model_dump(mode="json")))
    return tmp_path / "detector"


@pytest.fixture
def loaded(monkeypatch):
    calls = []
    monkeypatch.setattr(loading, "load", lambda *arguments: calls.append(arguments) or "loaded")
    return calls


@pytest.mark.parametrize("reason", ["it is computed on cuda:0", "the score is 1, by PyTorch 2"])
def test_what_cannot_be_converted_is_loaded_as_it_is(folder, loaded, monkeypatch, caplog, reason):
    caplog.set_level("INFO", "adjobs")
    monkeypatch.setattr(conversion_process, "convert_in_process", lambda *arguments: reason)
    assert load_to_serve(str(folder), device="auto", engine="auto") == "loaded"
    assert loaded == [(folder, "auto", "auto")]
    assert f"the detector is not computed by OpenVINO: {reason}" in caplog.text


def test_engine_torch_is_not_converted(folder, loaded, monkeypatch):
    monkeypatch.setattr(conversion_process, "convert_in_process", pytest.fail)
    assert load_to_serve(str(folder), engine="torch") == "loaded"


@pytest.mark.slow
def test_converted_detector(folder):
    from adjobs.inference.engine_openvino import OpenVINOEngine

    detector = load_to_serve(str(folder), device="cpu")
    assert isinstance(detector.engine, OpenVINOEngine)
    assert detector.threshold == 0.5


@pytest.mark.slow
def test_process_that_serves_does_not_import_pytorch(folder):
    code = f"from adjobs.serving.loading import load_to_serve; load_to_serve({str(folder)!r}, device='cpu')"
    subprocess.run([sys.executable, "-c", f"{code}; import sys; sys.exit('torch' in sys.modules)"], check=True, timeout=120)
