"""What is drawn over an image: exactly the pixels that training takes for defects."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from adjobs.data.dataset import Sample
from adjobs.data.image_reading import DEFAULT_READING, ImageReading
from adjobs.data.labels.masks import Box
from adjobs.reporting.thumbnail import BOX, MASK, UNKNOWN_BLOCK, draw_thumbnail
from tests.helpers.drawing import save

GREY = 100


def grey_image(tmp_path, height: int = 40, width: int = 60, **labels) -> Sample:
    path = save(tmp_path / "image.png", np.full((height, width, 3), GREY, np.uint8))
    return Sample("image.png", path, "anomalous", **labels)


def drawn(sample: Sample, side: int = 60) -> np.ndarray:
    image = draw_thumbnail(sample, DEFAULT_READING, side).image
    assert image is not None
    return np.asarray(image)


def has_colour(pixels: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """``(H, W)`` bool."""
    return (pixels == colour).all(axis=2)


def test_draw_thumbnail_mask_is_tinted_inside_and_outlined_outside(tmp_path):
    mask = np.zeros((40, 60), dtype=bool)
    mask[10:20, 30:50] = True
    sample = grey_image(tmp_path, mask=save(tmp_path / "mask.png", mask))
    pixels = drawn(sample)
    line = has_colour(pixels, MASK)
    assert not line[mask].any()
    assert line[8:10, 30:50].all()
    assert line[10:20, 50:52].all()
    assert (pixels[mask] != GREY).any(axis=1).all()
    far = np.ones_like(mask)
    far[7:23, 27:53] = False
    assert (pixels[far] == GREY).all()
    assert draw_thumbnail(sample, DEFAULT_READING, 60).coverage == 200 / 2400


def test_draw_thumbnail_mask_that_reaches_the_border_is_outlined_on_it(tmp_path):
    pixels = drawn(grey_image(tmp_path, mask=save(tmp_path / "mask.png", np.ones((40, 60), dtype=bool))))
    assert has_colour(pixels, MASK)[[0, -1]].all()
    assert not has_colour(pixels, MASK)[5:35, 5:55].any()


def test_draw_thumbnail_thin_scratch_survives_being_shrunk(tmp_path):
    mask = np.zeros((400, 600), dtype=bool)
    mask[77, 211] = True
    pixels = drawn(grey_image(tmp_path, 400, 600, mask=save(tmp_path / "mask.png", mask)))
    assert pixels.shape == (40, 60, 3)
    assert has_colour(pixels, MASK)[7, [19, 20, 22, 23]].all()


def test_draw_thumbnail_boxes_are_outlined_outside(tmp_path):
    line = has_colour(drawn(grey_image(tmp_path, boxes=(Box(10, 12, 20, 22),))), BOX)
    assert line[10:12, 10:20].all()
    assert line[12:22, 20:22].all()
    assert not line[12:22, 10:20].any()


def test_draw_thumbnail_blocks_are_drawn_like_masks_and_unknown_ones_striped(tmp_path):
    grid = np.array([[0, 255, 128]], dtype=np.uint8)
    pixels = drawn(grey_image(tmp_path, blocks=save(tmp_path / "grid.png", grid)))
    normal, anomalous, unknown = pixels[:, :17], pixels[:, 20:40], pixels[:, 43:]
    assert (normal == GREY).all()
    assert (anomalous != GREY).any(axis=2).all()
    assert has_colour(unknown, UNKNOWN_BLOCK).any()
    assert (unknown == GREY).all(axis=2).any()


def test_draw_thumbnail_labels_follow_a_rotated_image(tmp_path):
    pixels = np.full((20, 40, 3), GREY, np.uint8)
    exif = Image.Exif()
    exif[274] = 6  # turned by a quarter
    Image.fromarray(pixels).save(tmp_path / "image.jpg", exif=exif)
    sample = Sample("image.jpg", tmp_path / "image.jpg", "anomalous", boxes=(Box(0, 30, 20, 40),))
    thumbnail = draw_thumbnail(sample, DEFAULT_READING, 40)
    assert thumbnail.size == (20, 40)
    assert thumbnail.image is not None
    assert has_colour(np.asarray(thumbnail.image), BOX)[28:30].all()


@pytest.mark.parametrize("mask", [np.ones((39, 60), dtype=bool), None])
def test_draw_thumbnail_labels_that_do_not_fit_are_left_out(mask, tmp_path):
    path = tmp_path / "mask.png"
    if mask is None:
        path.write_bytes(b"not an image")
    else:
        save(path, mask)
    sample = grey_image(tmp_path, mask=path)
    assert (drawn(sample) == GREY).all()
    assert draw_thumbnail(sample, DEFAULT_READING, 60).coverage is None


def test_draw_thumbnail_unreadable_image_gives_the_reason(tmp_path):
    (tmp_path / "image.png").write_bytes(b"not an image")
    thumbnail = draw_thumbnail(Sample("image.png", tmp_path / "image.png", "normal"), DEFAULT_READING, 60)
    assert thumbnail.image is None
    assert thumbnail.reason.startswith("is not a supported image")
    gone = draw_thumbnail(Sample("gone.png", tmp_path / "gone.png", "normal"), DEFAULT_READING, 60)
    assert (gone.image, bool(gone.reason)) == (None, True)


def test_draw_thumbnail_sizes_keep_proportions_and_tiny_images_are_enlarged_up_to_a_limit(tmp_path):
    strip = draw_thumbnail(grey_image(tmp_path, 2, 1000), DEFAULT_READING, 100)
    assert strip.image is not None
    assert strip.image.size == (100, 1)
    tiny = draw_thumbnail(grey_image(tmp_path, 2, 3), DEFAULT_READING, 100)
    assert tiny.image is not None
    assert tiny.image.size == (36, 24)


def test_draw_thumbnail_more_than_8_bits_are_read_as_training_reads_them(tmp_path):
    path = save(tmp_path / "deep.png", np.full((32, 32), 1000, np.uint16))
    sample = Sample("deep.png", path, "normal")
    for white, expected in ((1023, 249), (4095, 62)):
        image = draw_thumbnail(sample, ImageReading(white=white, depths="more than 8 bits"), 32).image
        assert image is not None
        assert np.unique(np.asarray(image)) == expected
