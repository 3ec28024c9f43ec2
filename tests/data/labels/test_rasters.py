from __future__ import annotations

import base64
import io
import math
import zlib

import numpy as np
import pytest
from PIL import Image

from adjobs.data.labels import polygons
from adjobs.data.labels.rasters import decode_png, decode_runs, encode_bitmap, encode_ellipse, encode_traced

SIZE = (40, 30)


def draw(code):
    return polygons.draw(code, *SIZE)


def to_png(pixels, **options):
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    image.save(buffer, format="PNG", **options)
    return buffer.getvalue()


def encoded(data):
    return base64.b64encode(data).decode()


def test_encode_ellipse_marks_pixels_whose_centres_are_inside():
    y, x = np.mgrid[:30, :40] + 0.5
    circle = draw(encode_ellipse((20, 15), (8, 8), 0, SIZE))
    assert np.array_equal(circle, (x - 20) ** 2 + (y - 15) ** 2 <= 64)


def test_encode_ellipse_is_turned_clockwise_and_clipped():
    mask = draw(encode_ellipse((20, 15), (10, 1), math.pi / 4, SIZE))
    assert mask[9, 14]
    assert mask[20, 25]
    assert not mask[20, 14]
    corner = draw(encode_ellipse((0, 0), (4, 4), 0, SIZE))
    assert (corner[:4, :4].sum(), corner.sum()) == (13, 13)


@pytest.mark.parametrize(
    ("centre", "radii", "message"),
    [
        ((20, 15), (0, 3), "ellipse has the radii 0 and 3; they must be positive"),
        ((60, 15), (3, 3), "ellipse does not overlap the image"),
        ((20, math.inf), (3, 3), r"ellipse is \[20, inf, 3, 3, 0\]; expected centre, radii and angle as numbers"),
        ((20.5, 15), (0.1, 0.1), "bitmap has no pixels"),
    ],
)
def test_encode_ellipse_that_cannot_be_drawn_is_refused(centre, radii, message):
    with pytest.raises(ValueError, match=message):
        encode_ellipse(centre, radii, 0, SIZE)


def test_encode_traced_outlines_belong_to_the_defect():
    square = [5.0, 4, 14, 4, 14, 13, 5, 13]
    hole = [7.0, 7, 11, 7, 11, 11, 7, 11]
    mask = draw(encode_traced([(square, [hole])], SIZE))
    assert mask.sum() == 100 - 9
    assert not mask[8:11, 8:11].any()
    assert draw(encode_traced([(square, []), ([30.0, 1, 31, 1, 31, 2], [])], SIZE)).sum() == 103


def test_encode_bitmap_outside_the_image_is_refused():
    with pytest.raises(ValueError, match=r"bitmap of 2 x 2 pixels at \(39, 0\) is not inside the image of 40 x 30 pixels"):
        encode_bitmap(np.ones((2, 2), bool), 39, 0, SIZE)


def test_decode_runs_are_row_by_row():
    assert decode_runs([1, 2, 0, 1], 2, 2).tolist() == [[False, True], [True, True]]


@pytest.mark.parametrize(("lengths", "side"), [([1, 2], 2), ([], 2), ([5, -1], 2), ([0], 0)])
def test_decode_runs_that_do_not_add_up_are_refused(lengths, side):
    with pytest.raises(ValueError, match="they must add up to the"):
        decode_runs(lengths, side, side)


def test_decode_png_of_every_kind():
    mask = np.array([[True, False, True], [False, False, True]])
    grey = mask.astype(np.uint8) * 255
    alpha = np.stack([np.full_like(grey, 9)] * 3 + [grey], axis=2)
    colors = np.stack([np.zeros_like(grey), grey, np.zeros_like(grey)], axis=2)
    for pixels in (mask, grey, alpha, colors):
        for data in (to_png(pixels), zlib.compress(to_png(pixels))):
            assert np.array_equal(decode_png(encoded(data)), mask)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("*", "bitmap cannot be decoded .*; expected a PNG file in base64"),
        (encoded(b"no file"), "bitmap cannot be decoded"),
        (encoded(zlib.compress(b"no file")), "bitmap cannot be decoded"),
        (encoded(zlib.compress(bytes(1 << 25))), "more than 22,369,621 bytes when decompressed"),
        (encoded(to_png(np.ones((3, 3), np.uint8))[:-30]), "bitmap cannot be decoded"),
    ],
)
def test_decode_png_that_is_none_is_refused_in_one_line(text, message):
    with pytest.raises(ValueError, match=message) as raised:
        decode_png(text)
    assert "\n" not in str(raised.value)


def test_decode_png_of_too_many_pixels_is_refused_before_decoding():
    header = bytearray(to_png(np.ones((3, 3), np.uint8)))
    header[16:24] = (100_000).to_bytes(4, "big") * 2
    header[29:33] = zlib.crc32(header[12:29]).to_bytes(4, "big")
    with pytest.raises(ValueError, match="bitmap cannot be decoded"):
        decode_png(encoded(bytes(header)))
