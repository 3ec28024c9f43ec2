"""Small changes of images, pixel by pixel, and the decisions that they change."""

from __future__ import annotations

import numpy as np
import pytest

from adjobs.errors import DataError
from adjobs.evaluation import behaviour
from adjobs.evaluation.behaviour import BEHAVIOURS, ChangedDecisions, count_changed_decisions

IMAGE = np.array([[10, 20, 30, 40], [50, 60, 70, 250]], dtype=np.uint8)


def test_flip_exchanges_left_and_right():
    assert behaviour.flip(IMAGE).tolist() == [[40, 30, 20, 10], [250, 70, 60, 50]]


def test_brightness_is_scaled_rounded_and_bounded():
    assert behaviour.brighter(IMAGE).tolist() == [[10, 21, 32, 42], [52, 63, 74, 255]]
    assert behaviour.darker(IMAGE).tolist() == [[10, 19, 28, 38], [48, 57, 66, 238]]


def test_shift_repeats_the_edge():
    moved = behaviour.shift(np.arange(16, dtype=np.uint8).reshape(4, 4))
    assert moved.tolist() == [[0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 1], [4, 4, 4, 5]]


@pytest.mark.parametrize("shape", [(24, 40), (24, 40, 3)])
@pytest.mark.parametrize("name", BEHAVIOURS)
def test_behaviour_keeps_shape_and_type_and_the_image_itself(name, shape):
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    before = image.copy()
    changed = BEHAVIOURS[name](image)
    assert (changed.shape, changed.dtype) == (shape, np.uint8)
    assert not np.array_equal(changed, image)
    assert np.array_equal(image, before)


def test_jpeg_changes_smooth_images_little():
    smooth = np.tile(np.arange(64, dtype=np.uint8) * 2, (64, 1))
    assert np.abs(behaviour.compress(smooth).astype(int) - smooth).max() <= 3


def test_count_changed_decisions_compares_each_image_with_itself():
    images = [np.full((8, 8), value, dtype=np.uint8) for value in (90, 98, 104, 120)]
    changed = count_changed_decisions(iter(images), lambda batch: [image.mean() >= 100 for image in batch], batch_size=3)
    assert changed == [
        ChangedDecisions("flip", 0, 4),
        ChangedDecisions("brighter", 1, 4),  # 98 becomes 103
        ChangedDecisions("darker", 1, 4),  # 104 becomes 99
        ChangedDecisions("jpeg", 0, 4),
        ChangedDecisions("shift", 0, 4),
    ]
    assert count_changed_decisions([], lambda _: [], ("flip",)) == [ChangedDecisions("flip", 0, 0)]


def test_count_changed_decisions_refuses_other_images_and_decisions():
    for image in (np.zeros((4, 4)), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4), np.uint8)):
        with pytest.raises(DataError, match=r"^image: got .* need uint8 of shape"):
            count_changed_decisions([image], lambda batch: [False] * len(batch))
    with pytest.raises(DataError, match=r"got shape \(1,\) for 2 images"):
        count_changed_decisions([IMAGE, IMAGE], lambda _: [True])
