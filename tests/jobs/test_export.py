"""Exporting a run: on which images it is compared, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import adjobs
from adjobs.cli.main import main
from adjobs.config.environment import load_settings
from adjobs.errors import DataError, JobError, StorageError
from adjobs.jobs import export as jobs_export
from adjobs.jobs.export import _evenly, _near_and_far
from adjobs.tracking.runs import find_run, open_reader
from tests.helpers.drawing import draw_folder

pytestmark = pytest.mark.slow
OVERRIDES = ["params.backbone=resnet18", "params.weights=none", "params.epochs=1", "params.batch_size=4", "data.image_size=64"]


@pytest.fixture(scope="module")
def home(own_home) -> Path:
    draw_folder(own_home / "data", 20, 10)
    return own_home


@pytest.fixture(scope="module")
def result(home):
    job = {"method": "cdo", "data": {"uri": str(home / "data")}, "track": "none"}
    return adjobs.train(job, overrides=OVERRIDES, progress=False)


def run_export(*words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(main, ["export", *words])
    return done.exit_code, done.stdout, done.stderr


def test_export_of_a_run_predicts_what_the_run_does(result, home, tmp_path):
    status, text, _ = run_export(result.run_id, "--format", "onnx", "--out", str(tmp_path / "out"))
    assert status == 0
    assert text.splitlines()[0].split() == ["exported", "onnx"]
    assert "decisions       all equal" in text
    assert f"adjobs predict --model {tmp_path / 'out'} IMAGES" in text
    images = sorted((home / "data").rglob("*.png"))
    expected, actual = (adjobs.load_detector(model)(list(images)) for model in (result.run_id, tmp_path / "out"))
    assert [each.score for each in actual] == pytest.approx([each.score for each in expected], rel=1e-4)
    assert [each.decision for each in actual] == [each.decision for each in expected]
    status, text, _ = run_export(result.run_id, "--format", "onnx", "--out", str(tmp_path / "out"), "--json", "--count", "3")
    assert status == 0
    document = json.loads(text)
    assert document["images"] == 3
    assert document["score_difference"] < 1e-4
    assert document["milliseconds"].keys() == {"torch", "exported"}


def test_near_and_far_has_the_images_on_the_threshold(result):
    settings = load_settings()
    reader = open_reader(find_run(settings.tracking_uri, settings.home, result.run_id))
    scores = reader.scores("val")
    threshold = float(np.sort(scores.score)[2])
    chosen = _near_and_far(reader, threshold, settings, 4)
    assert len(set(chosen)) == 4
    nearest = [scores.ids[index] for index in np.argsort(np.abs(scores.score - threshold), kind="stable")[:2]]
    assert [path.name for path in chosen[:2]] == [Path(name).name for name in nearest]


@pytest.mark.parametrize(("values", "count", "expected"), [([1, 2], 5, [1, 2]), ([0, 1, 2, 3, 4], 3, [0, 2, 4]), ([5], 1, [5])])
def test_evenly_first_and_last_are_taken(values, count, expected):
    assert _evenly(values, count) == expected


def test_export_of_a_folder_needs_images(result, home, tmp_path):
    folder = shutil.copytree(result.model, tmp_path / "detector")
    with pytest.raises(DataError, match=r"no run is recorded with it, so no images are known .*; name some with --images"):
        adjobs.export(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    made = adjobs.export(folder, tmp_path / "out", images=[home / "data"], count=2)
    assert made.agreement.images == 2
    with pytest.raises(StorageError, match="was exported for onnx and has no weights"):
        adjobs.export(tmp_path / "out", tmp_path / "again", images=[home / "data"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "torchscript"}, "format: unknown format 'torchscript'; .*onnx, openvino"),
        ({"count": 0}, "count: got 0; at least 1 image is compared"),
    ],
)
def test_export_wrong_options_are_refused(result, options, message, tmp_path):
    with pytest.raises(JobError, match=message):
        adjobs.export(result.run_id, tmp_path / "out", **options)


def test_export_without_its_packages_says_what_to_install(result, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs_export.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(JobError, match=r"onnx, onnxscript, onnxruntime is not installed; run: pip install 'adjobs\[export\]'"):
        adjobs.export(result.run_id, tmp_path / "out")
