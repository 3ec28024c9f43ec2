from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from adjobs.errors import TrackingError
from adjobs.inference.detector_folder import write_manifest
from adjobs.serving import models
from adjobs.serving.models import ModelSource, recorded_run, warm_up
from tests.helpers.detectors import make_manifest
from tests.helpers.registry import store  # noqa: F401 (a fixture)
from tests.helpers.serving import HeldDetector


class Timed(HeldDetector):
    """A detector whose predictions take what a test says."""

    def __init__(self, seconds: dict[int, float]) -> None:
        super().__init__()
        self.seconds, self.expected = seconds, 0

    def expect(self, count: int) -> None:
        self.expected = count


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ({1: 0.01, 4: 0.02, 16: 0.04}, 16),
        ({1: 0.01, 4: 0.02, 16: 0.12}, 4),
        ({1: 0.01, 4: 0.04, 16: 0.15}, 1),  # hardly faster
        ({1: 2.0, 4: 2.1, 16: 2.2}, 1),  # larger ones are not tried
    ],
)
def test_warm_up_chooses_what_is_fastest(seconds, chosen, monkeypatch):
    detector, sizes = Timed(seconds), []

    def predict(detector: Any, images: list[Any], count: int) -> float:
        sizes.append(count)
        return seconds.get(count, 1.0) / count

    monkeypatch.setattr(models, "_predict", predict)
    batch, each = warm_up(detector, 16)  # type: ignore[arg-type]
    assert (batch, each) == (chosen, seconds[chosen] / chosen)
    assert detector.expected > 10**6
    assert max(sizes) == (2 if seconds[1] > 1 else 16)


def test_warm_up_one_at_a_time_tries_no_batch():
    detector = HeldDetector()
    assert warm_up(detector, 1)[0] == 1  # type: ignore[arg-type]
    assert set(detector.batches) == {1, 2}


def test_alias_is_resolved_and_followed(store, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    monkeypatch.setenv("ADJOBS_HOME", str(tmp_path / "home"))
    source = ModelSource("models:/line-3@champion", lambda pinned: HeldDetector())
    with pytest.raises(TrackingError, match="champion"):
        source.resolve()
    store.set_alias("line-3", "champion", 3)
    assert (source.alias, source.resolve()) == ("champion", "models:/line-3/3")
    store.set_alias("line-3", "champion", 4)
    model = source.load(source.resolve())
    assert (model.info.name, model.info.version, model.info.run_id, str(model.info)) == ("line-3", 4, None, "line-3 version 4")


@pytest.mark.parametrize(
    ("pinned", "name", "version"),
    [
        ("models:/line-3/12", "line-3", 12),
        ("models:/m-4f", "m-4f", None),
        ("models:/a/b", "b", None),
        ("4f" * 16, "4f" * 16, None),
    ],
)
def test_load_names_the_model(pinned, name, version):
    info = ModelSource(pinned, lambda model: HeldDetector(), find_run=lambda model: "run").load(pinned).info
    assert (info.name, info.version, info.run_id) == (name, version, "run")
    given = ModelSource(pinned, lambda model: HeldDetector(), "cells", find_run=lambda model: None).load(pinned).info
    assert given.name == "cells"


def test_folder_is_called_by_its_last_name_and_has_no_run(tmp_path, monkeypatch):
    folder = tmp_path / "cells"
    folder.mkdir()
    write_manifest(folder, make_manifest())
    monkeypatch.setenv("ADJOBS_HOME", str(tmp_path / "home"))
    info = ModelSource(f"{folder}/", lambda model: HeldDetector()).load(f"{folder}/").info
    assert (info.name, info.version, info.run_id, recorded_run(str(folder))) == ("cells", None, None, None)


def test_serving_is_imported_without_pytorch_ray_and_mlflow():
    code = """
import importlib, pkgutil, sys
import adjobs.serving
for module in pkgutil.iter_modules(adjobs.serving.__path__, "adjobs.serving."):
    importlib.import_module(module.name)
print([name for name in ("torch", "ray", "mlflow") if name in sys.modules])
"""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert process.stdout.strip() == "[]"
