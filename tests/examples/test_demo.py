"""The contact sheet of the demo, and what it says of its model; the demo itself trains for minutes."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest

from adjobs.data.dataset import Sample
from adjobs.inference.results import DetectorIdentity
from adjobs.metrics.intervals import Estimate
from tests.helpers.detectors import brightness_detector, draw_image, image_threshold

PROGRAM = Path(__file__).parents[2] / "examples" / "demo.py"


@pytest.fixture(scope="module")
def demo():
    spec = importlib.util.spec_from_file_location("demo", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def result(recall: float | None) -> SimpleNamespace:
    estimates = {"test/image_recall": Estimate(recall, 0.25, 0.5), "test/image_specificity": Estimate(0.99, 0.9, 1.0)}
    evaluation = SimpleNamespace(estimates=estimates, thresholds=SimpleNamespace(image=image_threshold(0.5)))
    return SimpleNamespace(evaluation=evaluation, metrics={"test/image_auroc": 0.8125}, run_id="4f" * 16, model="any")


def test_explain_says_what_is_detected_why_not_more_and_what_to_do(demo):
    assert demo.explain(result(0.36)) == (
        "it detects 36 % of the anomalous test images (95 % interval 25 to 50 %) with false alarms on 1.0 % of the normal ones: "
        "its threshold (fixed 0.5) allows few, and a training this short separates the two only so far (AUROC 0.812). For more "
        "detections, and more false alarms: adjobs threshold 4f4f4f4f --policy miss_cost --value 20"
    )
    assert "nothing is known" in demo.explain(result(None))


def test_draw_sheet_has_the_images_with_their_labels(demo, tmp_path, monkeypatch):
    detector = brightness_detector()
    identity = DetectorIdentity("1", detector.threshold, "any")
    monkeypatch.setattr("adjobs.jobs.predict.load_with_identity", lambda *_: (detector, identity))
    monkeypatch.setenv("ADJOBS_HOME", str(tmp_path / "home"))
    samples = [
        Sample("a.png", draw_image(tmp_path / "images", "a.png", (0, 0, 160, 96)), "anomalous"),
        Sample("b.png", draw_image(tmp_path / "images", "b.png"), "normal"),
    ]
    page, sentence = demo.draw_sheet(result(0.5), samples, tmp_path / "out")
    assert sentence == "of 2 images with a label: 1 of 1 anomalous ones detected, 0 false alarms among 1 normal ones"
    assert page == tmp_path / "out" / "index.html"
    assert 'src="./a.png"' in page.read_text()
