from __future__ import annotations

import numpy as np
import pytest
import torch

from adjobs.backbones import Pretrained
from adjobs.labelling.features import THUMBNAIL, FeatureExtractor, standardise
from tests.helpers.detectors import SIDE, Brightness, brightness_detector


class WithNetwork(Brightness):
    """A method with a network whose deepest map is known: the image at 4 x 4 positions."""

    def __init__(self) -> None:
        super().__init__()
        pool = torch.nn.AdaptiveAvgPool2d(4)
        self.network = Pretrained(pool, [0.0] * 3, [1.0] * 3)
        self.network.forward = lambda images: [images, pool(images)]  # type: ignore[method-assign]


def noise(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)


def test_extract_uses_the_network_of_the_detector():
    images = noise(2)
    features = FeatureExtractor(brightness_detector(method=WithNetwork())).extract(images)
    blocks = (images / 255).reshape(2, 4, SIDE // 4, 4, SIDE // 4, 3).mean((2, 4)).reshape(2, 16, 3)
    assert features == pytest.approx(np.concatenate([blocks.mean(1), blocks.std(1)], 1), abs=1e-5)


def test_extract_without_a_network_is_a_thumbnail():
    features = FeatureExtractor(brightness_detector()).extract(noise(3))
    assert features.shape == (3, THUMBNAIL**2 + 2 * THUMBNAIL * (THUMBNAIL - 1))
    assert features.dtype == np.float32


def test_standardise_scales_by_the_spread_of_the_reference():
    reference = np.array([[0.0, 10.0], [2.0, 30.0]])
    assert standardise(np.array([[1.0, 20.0], [3.0, 20.0]]), reference).tolist() == [[0, 0], [2, 0]]


def test_standardise_a_constant_feature_is_scaled_by_a_tenth_of_the_mean_spread():
    reference = np.array([[0.0, 5.0], [4.0, 5.0]])  # spreads 2 and 0
    assert standardise(np.array([[2.0, 6.0]]), reference) == pytest.approx(np.array([[0, 10]]))


def test_standardise_one_reference_image_is_a_difference():
    assert standardise(np.array([[3.0, 1.0]]), np.array([[1.0, 1.0]])).tolist() == [[2, 0]]
