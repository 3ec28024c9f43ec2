"""The cases that people bring: classes as numbers or colours, smoothed edges, compression."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from adjobs.data.labels.mask_values import decode_mask, interpret, with_alpha


def drawn(*levels: int, side: int = 96) -> np.ndarray:
    """A rectangle, an ellipse and a line, filled with these values in turn, ``(side, side)`` uint8."""
    image = Image.new("L", (side, side))
    drawing = ImageDraw.Draw(image)
    unit, fills = side / 96, [levels[i % len(levels)] for i in range(3)]
    drawing.rectangle([10 * unit, 10 * unit, 29 * unit, 24 * unit], fill=fills[0])
    drawing.ellipse([50 * unit, 40 * unit, 80 * unit, 60 * unit], fill=fills[1])
    drawing.line([8 * unit, 85 * unit, 40 * unit, 60 * unit], fill=fills[2], width=max(1, int(2 * unit)))
    return np.asarray(image)


def compressed(values: np.ndarray, kind: str, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(values).save(file, kind, quality=quality)
    return np.asarray(Image.open(file).convert("L"))


@pytest.mark.parametrize("levels", [(255,), (1,), (100,), (100, 200), (1, 2, 3), (64, 128, 192), (20, 200, 90), (200, 1, 1)])
def test_interpret_classes_are_all_that_is_not_background(levels):
    values = drawn(*levels)
    read = interpret(values)
    assert np.array_equal(read.defect, values > 0)
    assert (read.values, read.rule) == (len({0, *levels}), "binary" if len(levels) == 1 else "classes")


def test_interpret_sixteen_bits_and_fractions_are_classes():
    for values in (drawn(1, 2).astype(np.uint16) * 150, np.where(drawn(1, 2) == 2, 300, drawn(1, 2)).astype(np.int32)):
        assert np.array_equal(interpret(values).defect, values > 0)
    values = drawn(1).astype(np.float32) / 2
    assert np.array_equal(interpret(values).defect, values > 0)


def test_interpret_neighbouring_classes_are_both_defect():
    values = np.zeros((40, 40), np.uint8)
    values[5:25, 5:15], values[5:25, 15:25] = 100, 200
    assert int(interpret(values).defect.sum()) == 400


def test_interpret_instances_numbered_up_to_forty_are_defect():
    values = np.zeros((60, 60), np.uint8)
    for number in range(1, 41):
        row, column = divmod(number, 7)
        values[8 * row : 8 * row + 7, 8 * column : 8 * column + 7] = number
    assert np.array_equal(interpret(values).defect, values > 0)


@pytest.mark.parametrize("radius", [0.5, 1, 2, 5])
def test_interpret_blurred_edges_are_read_at_half(radius):
    values = np.asarray(Image.fromarray(drawn(255)).filter(ImageFilter.GaussianBlur(radius)))
    assert np.array_equal(interpret(values).defect, values > int(values.max()) / 2)


@pytest.mark.parametrize("side", [60, 70, 200])
@pytest.mark.parametrize("method", [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS])
def test_interpret_resized_edges_are_read_at_half(side, method):
    values = np.asarray(Image.fromarray(drawn(255)).resize((side, side), method))
    assert np.array_equal(interpret(values).defect, values > 127)


@pytest.mark.parametrize("factor", [2, 4])
def test_interpret_edges_drawn_finer_are_read_at_half(factor):
    values = np.asarray(Image.fromarray(drawn(255, side=96 * factor)).resize((96, 96), Image.Resampling.BOX))
    assert np.array_equal(interpret(values).defect, values > 127)


@pytest.mark.parametrize(("kind", "quality"), [("JPEG", 30), ("JPEG", 75), ("JPEG", 95), ("JPEG", 100), ("WEBP", 80)])
def test_interpret_noise_of_compression_is_no_defect(kind, quality):
    values = drawn(255)
    noisy = compressed(values, kind, quality)
    assert np.array_equal(interpret(noisy).defect, noisy > 127)
    assert (interpret(noisy).defect != (values > 0)).sum() <= 12


def test_interpret_single_pixels_of_one_value_are_defect_unless_they_are_noise():
    values = drawn(255).copy()
    values[[2, 5, 90], [70, 8, 90]] = 1
    assert np.array_equal(interpret(values).defect, values == 255)
    values[values == 1] = 100
    assert np.array_equal(interpret(values).defect, values > 0)


def test_interpret_dim_compressed_mask_is_read_at_half_of_its_own():
    noisy = compressed(drawn(100), "JPEG", 75)
    assert np.array_equal(interpret(noisy).defect, noisy > int(noisy.max()) / 2)
    assert (interpret(noisy).defect != (drawn(100) > 0)).sum() <= 12


def test_interpret_smoothed_sixteen_bits_are_read_at_half():
    values = np.asarray(Image.fromarray(drawn(255)).filter(ImageFilter.GaussianBlur(1))).astype(np.uint16) * 257
    assert np.array_equal(interpret(values).defect, values > 65535 / 2)


def test_interpret_empty_and_full_masks():
    assert interpret(np.zeros((4, 5), np.uint8)).values == interpret(np.full((4, 5), 255, np.uint8)).values == 1
    assert interpret(np.full((4, 5), 255, np.uint8)).defect.all()
    assert not interpret(np.zeros((4, 5), bool)).defect.any()
    assert interpret(np.eye(4, dtype=bool)).defect.dtype == bool


def test_with_alpha_transparent_pixels_are_background():
    alpha = np.array([[0, 255, 255, 90]], np.uint8)
    assert with_alpha(np.array([[255, 255, 0, 255]], np.uint8), alpha).tolist() == [[0, 255, 0, 90]]
    assert with_alpha(np.zeros((1, 4), np.uint8), alpha).tolist() == alpha.tolist()  # painted black
    opaque = np.full((1, 4), 255, np.uint8)
    assert not with_alpha(np.zeros((1, 4), np.uint8), opaque).any()


def read(image: Image.Image, **options: object) -> np.ndarray:
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    return decode_mask(file.getvalue()).defect


def test_decode_mask_of_every_kind_is_all_that_is_not_background():
    classes = drawn(1, 2, 3)
    expected = classes > 0
    palette = Image.fromarray(classes, "P")
    palette.putpalette([0, 0, 0, 64, 0, 0, 0, 0, 128, 255, 200, 0])
    colours = np.asarray(palette.convert("RGB"))
    overlay = np.dstack([np.full_like(classes, 255), classes * 0, classes * 0, np.where(expected, 120, 0).astype(np.uint8)])
    black = overlay * np.array([0, 0, 0, 1], np.uint8)
    images = [
        Image.fromarray(classes),
        palette,
        Image.fromarray(colours),
        Image.fromarray(colours).convert("RGBA"),
        Image.fromarray(overlay),
        Image.fromarray(black),
        Image.fromarray(black).convert("LA"),
        Image.fromarray(np.where(classes == 2, 300, classes).astype(np.uint16)),
        Image.fromarray(expected),
        Image.fromarray(expected).convert("RGB"),
    ]
    for image in images:
        np.testing.assert_array_equal(read(image), expected)
    np.testing.assert_array_equal(read(palette, transparency=2), (classes == 1) | (classes == 3))


def test_decode_mask_two_grey_levels_are_both_defect():
    # Two squares of 100 and 200: half of the brightest would lose the first.
    values = np.zeros((96, 128), np.uint8)
    values[10:30, 10:30], values[50:80, 60:90] = 100, 200
    assert int(read(Image.fromarray(values)).sum()) == 1300
