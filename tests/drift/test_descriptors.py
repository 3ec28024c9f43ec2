"""Simple statistics and features of drawn images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from adjobs.data.images import stretch
from adjobs.drift.descriptors import FEATURE_SIZE, STATISTICS, FeatureExtractor, has_features, simple_statistics


def statistics_of(image: Image.Image) -> dict[str, float]:
    return dict(zip((statistic.name for statistic in STATISTICS), simple_statistics(image), strict=True))


def noise(width: int = 64, height: int = 48) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 200, (height, width), np.uint8))


def test_simple_statistics_by_hand():
    pixels = np.zeros((10, 20, 3), np.uint8)
    pixels[:, 10:] = 255
    values = statistics_of(Image.fromarray(pixels))
    assert values["brightness"] == values["contrast"] == pytest.approx(127.5)
    assert values["overexposed"] == pytest.approx(50)
    assert values["horizontal centre"] == pytest.approx(75)
    assert values["vertical centre"] == pytest.approx(50)
    assert values["size"] == pytest.approx(0.0002)
    assert values["red cast"] == values["blue cast"] == 0


def test_simple_statistics_of_a_colour_cast():
    values = statistics_of(Image.new("RGB", (8, 8), (120, 100, 90)))
    assert (values["red cast"], values["blue cast"]) == (20, -10)


def test_simple_statistics_blur_lowers_sharpness():
    image = noise()
    assert statistics_of(image.filter(ImageFilter.GaussianBlur(1)))["sharpness"] < 0.5 * statistics_of(image)["sharpness"]


def test_simple_statistics_of_a_black_pixel_are_finite():
    assert np.isfinite(simple_statistics(Image.new("L", (1, 1)))).all()


def test_simple_statistics_of_a_large_image_are_those_of_a_smaller_one():
    values = statistics_of(Image.new("L", (5000, 10), 100))
    assert (values["brightness"], values["size"]) == (100, 0.05)


@pytest.mark.slow
@pytest.mark.skipif(not has_features(), reason="needs the packaged weights")
def test_feature_extractor_gives_one_row_per_image():
    images = [noise(), noise(200, 30), Image.new("RGB", (9, 9))]
    features = FeatureExtractor(torch.device("cpu"))(np.stack([stretch(image, FEATURE_SIZE) for image in images]))
    assert features.shape[0] == 3
    assert np.isfinite(features).all()
    assert not np.allclose(features[0], features[2])
