from __future__ import annotations

import pytest

from adjobs.labelling.images import ImageSource
from adjobs.labelling.scoring import DescribedImages, ImageScorer, hash_sources
from tests.helpers.detectors import brightness_detector, draw_image
from tests.helpers.labelling import draw_textured


def test_score_is_what_the_detector_predicts_batch_by_batch(tmp_path):
    detector = brightness_detector()
    paths = [draw_textured(tmp_path, f"{i}.png", i, 100 + i) for i in range(18)]  # more than a batch
    hashed, failures = hash_sources([ImageSource(path) for path in paths], progress=False)
    scored, unscored = ImageScorer(detector).score(hashed)
    assert (failures, unscored) == ([], [])
    assert [image.prediction.score for image in scored] == pytest.approx([detector(path).score for path in paths])
    assert all(image.prediction.anomaly_map is None and image.prediction.defect_mask is None for image in scored)


def test_describe_leaves_out_what_cannot_be_read(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"")
    paths = [tmp_path / "broken.png", draw_image(tmp_path, "a.png"), tmp_path / "gone.png", draw_image(tmp_path, "b.png")]
    described = ImageScorer(brightness_detector()).describe(paths)
    assert [path.name for path in described.paths] == ["a.png", "b.png"]
    assert len(described.features) == len(described.descriptors) == 2
    assert described.select({paths[3]}).paths == [paths[3]]


def test_describe_no_images_has_no_features(tmp_path):
    described = ImageScorer(brightness_detector()).describe([tmp_path / "gone.png"])
    assert (described.paths, len(described.features)) == ([], 0)
    assert len(DescribedImages.empty().select(set()).features) == 0


def test_hash_sources_lists_what_cannot_be_read(tmp_path):
    hashed, failures = hash_sources([ImageSource(tmp_path), ImageSource(draw_image(tmp_path, "a.png"))], progress=False)
    assert len(hashed[0].digest) == 64
    assert [failure.source.path for failure in failures] == [tmp_path]
    assert "it is a folder, not a file" in failures[0].error
