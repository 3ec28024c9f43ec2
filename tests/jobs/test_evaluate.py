"""A detector on other data: at its own thresholds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from adjobs.data.dataset import fingerprint
from adjobs.data.image_reading import ImageReading
from adjobs.data.open import open_dataset
from adjobs.errors import DataError
from adjobs.evaluation.predictions import ScoreError
from adjobs.jobs.evaluate import evaluate_detector
from tests.helpers.detectors import Brightness, brightness_detector, draw_image
from tests.helpers.drawing import draw_folder, save


def test_evaluate_detector_uses_the_thresholds_of_the_detector(tmp_path):
    draw_image(tmp_path / "data" / "good", "dark.png")
    draw_image(tmp_path / "data" / "bad", "bright.png", (0, 0, 160, 96))
    result = evaluate_detector(brightness_detector(), str(tmp_path / "data"), "auto", tmp_path / "cache")
    assert set(result.splits) == {"test"}
    assert (result.thresholds.image.value, result.thresholds.pixel_value) == (0.8, 0.5)
    assert (result.metrics["test/image_recall"], result.metrics["test/image_specificity"]) == (1, 1)


def test_evaluate_detector_training_data_are_refused(tmp_path):
    root = draw_folder(tmp_path / "data", 2, 1, size=32)
    detector = brightness_detector()
    digest = fingerprint(open_dataset(str(root), cache=tmp_path / "cache"))
    detector.manifest = detector.manifest.model_copy(update={"data_fingerprint": digest})
    with pytest.raises(DataError, match="the detector was trained on these images"):
        evaluate_detector(detector, str(root), "auto", tmp_path / "cache")


def test_evaluate_detector_scores_that_are_not_finite_are_refused(tmp_path):
    class Diverged(Brightness):
        def predict(self, images):
            return super().predict(images * math.nan)

    root = draw_folder(tmp_path / "data", 2, 1, size=32)
    with pytest.raises(ScoreError, match="is NaN or infinite"):
        evaluate_detector(brightness_detector(method=Diverged()), str(root), "auto", tmp_path / "cache")


def test_evaluate_detector_reads_images_as_the_training_images_and_warns_of_others(tmp_path, caplog):
    root = draw_folder(tmp_path / "data", 2, 2)
    plain = evaluate_detector(brightness_detector(), str(root), "auto", tmp_path / "cache")
    for path in (*root.glob("good/*"), *root.glob("bad/*/*")):
        save(path, np.asarray(Image.open(path).convert("L")).astype(np.uint16) * 16)
    detector = brightness_detector(image_reading=ImageReading(white=4080, depths="more than 8 bits"))
    deep = evaluate_detector(detector, str(root), "auto", tmp_path / "cache")
    assert deep.splits["test"].overall["image_auroc"] == plain.splits["test"].overall["image_auroc"]
    assert not caplog.records
    dark = brightness_detector(image_reading=ImageReading(white=1000, depths="more than 8 bits"))
    evaluate_detector(dark, str(root), "auto", tmp_path / "cache")
    assert "4 of 4 images, the first has values from" in caplog.text
