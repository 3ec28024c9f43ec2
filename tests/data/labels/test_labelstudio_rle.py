from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adjobs.data.labels.labelstudio_rle import decode_brush, unpack
from tests.helpers.datasets import pack_rle

# The values and their two codes are from the tests of rle-pack, the library that Label Studio encodes with.
VALUES = np.zeros(1024, dtype=np.uint8)
VALUES[512:541] = [1] * 5 + [2] * 4 + [3] * 3 + [4] * 2 + [5] + [4] * 2 + [3] * 3 + [2] * 4 + [1] * 5
CODES = (
    [0, 0, 4, 0, 17, 27, 255, 1, 255, 18, 24, 212, 78, 24, 5, 134, 68, 227, 82, 30, 3, 196, 0],
    [0, 0, 4, 0, 16, 9, 199, 255, 140, 134, 234, 206, 96, 89, 150, 119, 89, 15, 241, 0],
)


@pytest.mark.parametrize("code", CODES)
def test_unpack_published_codes(code):
    assert np.array_equal(unpack(code, 1024), VALUES)


@given(st.integers(1, 5), st.integers(1, 5), st.data())
def test_decode_brush_opaque_pixels_are_painted(width, height, data):
    pixels = np.array(data.draw(st.lists(st.sampled_from([0, 1, 255]), min_size=width * height * 4, max_size=width * height * 4)))
    painted = decode_brush(pack_rle(pixels), width, height)
    assert painted.shape == (height, width)
    assert np.array_equal(painted.ravel(), pixels[3::4] > 0)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("ab", r"^brush code is 'ab'; expected a list of bytes$"),
        (7, r"^brush code is 7; expected a list of bytes$"),
        (None, r"^brush code is None; expected a list of bytes$"),
        ([1.5], r"expected a list of bytes$"),
        ([300], r"^bytes must be in range"),
        ([], r"^brush code ends too early; export it again$"),
        (CODES[0][:-4], r"^brush code ends too early; export it again$"),
        ([0, 0, 4, 1, *CODES[0][4:]], r"^brush code has 1025 values; expected 1024, four for each pixel of the image$"),
    ],
)
def test_unpack_invalid_code_is_refused(code, message):
    with pytest.raises(ValueError, match=message):
        unpack(code, 1024)
