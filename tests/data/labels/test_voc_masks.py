from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from adjobs.data.labels.voc_masks import BORDER, ClassColors, palette_color, read_class_mask
from adjobs.errors import DataError
from tests.helpers.drawing import save


def test_class_colors_of_labelmap(tmp_path):
    path = tmp_path / "labelmap.txt"
    path.write_text("# label:color_rgb:parts:actions\nbackground:10,10,10::\nscratch:1,2,3::\n\n")
    assert ClassColors.read(path) == ClassColors({(1, 2, 3): "scratch"}, frozenset({(0, 0, 0), (10, 10, 10)}))
    assert ClassColors.read(tmp_path / "missing.txt") == ClassColors()


def test_class_colors_without_colors_are_those_of_the_palette(tmp_path):
    path = tmp_path / "labelmap.txt"
    path.write_text("# label:color_rgb:parts:actions\nbackground:::\nscratch:::\ndent:::\n")
    assert ClassColors.read(path).names == {(128, 0, 0): "scratch", (0, 128, 0): "dent"}


def test_class_colors_malformed_line_is_refused(tmp_path):
    path = tmp_path / "labelmap.txt"
    path.write_text("scratch:red::\n")
    with pytest.raises(DataError, match=r"line 'scratch:red::'; expected name:red,green,blue:parts:actions; fix it$"):
        ClassColors.read(path)


def test_palette_is_that_of_the_devkit():
    assert [palette_color(index) for index in (0, 1, 2, 3, 8, 255)] == [
        (0, 0, 0),
        (128, 0, 0),
        (0, 128, 0),
        (128, 128, 0),
        (64, 0, 0),
        BORDER,
    ]


def test_read_class_mask_of_palette_image(tmp_path):
    pixels = np.zeros((4, 6), dtype=np.uint8)
    pixels[1, :3], pixels[2, :2], pixels[3] = 1, 2, 255
    image = Image.fromarray(pixels, "P")
    image.putpalette([value for index in range(256) for value in palette_color(index)])
    image.save(tmp_path / "mask.png")
    masks = dict(read_class_mask(tmp_path / "mask.png", ClassColors({(128, 0, 0): "scratch"}), (6, 4)))
    assert {name: int(mask.sum()) for name, mask in masks.items()} == {"scratch": 3, "": 2}


def test_read_class_mask_of_another_size_is_refused(tmp_path):
    path = save(tmp_path / "mask.png", np.zeros((4, 6), dtype=np.uint8))
    with pytest.raises(ValueError, match="has 6 x 4 pixels, the image 4 x 6; both must be equal"):
        list(read_class_mask(path, ClassColors(), (4, 6)))
