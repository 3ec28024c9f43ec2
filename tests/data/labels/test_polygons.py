from __future__ import annotations

from itertools import groupby

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco

from adjobs.data.labels.polygons import bounds, check, draw, encode

masks = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=40))


def test_draw_polygon_of_whole_pixels():
    mask = draw([[1, 0, 4, 0, 4, 2, 1, 2]], 5, 3)
    assert mask.astype(int).tolist() == [[0, 1, 1, 1, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 0]]


def test_draw_several_polygons_are_united_and_clipped():
    mask = draw([[0, 0, 1, 0, 1, 1, 0, 1], [3, 1, 9, 1, 9, 6, 3, 6]], 5, 3)
    assert mask.astype(int).tolist() == [[1, 0, 0, 0, 0], [0, 0, 0, 1, 1], [0, 0, 0, 1, 1]]


def test_draw_run_lengths_go_down_the_columns():
    mask = draw({"size": [2, 3], "counts": [1, 2, 3]}, 3, 2)
    assert mask.astype(int).tolist() == [[0, 1, 0], [1, 0, 0]]


@given(masks)
def test_encode_draw_round_trip(mask):
    height, width = mask.shape
    code = encode(mask)
    assert code["size"] == [height, width]
    assert np.array_equal(draw(code, width, height), mask)
    lengths = [len(list(run)) for _, run in groupby(mask.T.ravel())]
    plain = {"size": [height, width], "counts": [0, *lengths] if mask[0, 0] else lengths}
    assert np.array_equal(draw(plain, width, height), mask)


@given(st.lists(st.floats(-5, 25), min_size=6, max_size=12).filter(lambda values: len(values) % 2 == 0))
def test_draw_polygons_as_pycocotools(values):
    code = coco.frPyObjects([values], 15, 20)[0]
    assert int(draw([values], 20, 15).sum()) == coco.area(code)


@given(masks)
def test_bounds_of_codes_are_tight(mask):
    height, width = mask.shape
    edges = bounds(encode(mask), width, height)
    if not mask.any():
        assert edges is None
        return
    left, top, right, bottom = edges
    inner = mask[top:bottom, left:right]
    assert inner.sum() == mask.sum()
    assert all(line.any() for line in (inner[0], inner[-1], inner[:, 0], inner[:, -1]))


def test_bounds_of_polygons_are_clipped_but_not_rounded():
    assert bounds([[1.5, 2, 4, 2, 4, 3.25], [-3, 5, 2, 5, 2, 6]], 20, 15) == (0, 2, 4, 6)
    assert bounds([[-3, -3, -1, -3, -1, -1]], 20, 15) is None


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([], r"^segmentation is \[\]; expected a list of polygons or a run-length code$"),
        ("ab", r"^segmentation is 'ab'; expected"),
        ([[1, 2, 3, 4]], r"^polygon is \[1, 2, 3, 4\]; expected x, y, x, y, … of three or more points$"),
        ([[1, 2, 3, 4, 5, 6, 7]], r"three or more points"),
        ([[1, 2, 3, 4, 5, float("nan")]], r"three or more points"),
        ([[1, 2, 3, 4, 5, 10**400]], r"three or more points"),
        ([[1, 2, 3, 4, 5, "6"]], r"three or more points"),
        ([1, 2, 3, 4, 5, 6], r"^polygon is 1; expected"),
        ([[0, 0, 900, 0, 900, 9]], r"^polygon reaches from 0 to 900 in an image of 4 x 3 pixels$"),
        ({"size": [4, 3], "counts": [12]}, r"^run-length code has size \[4, 3\]; expected \[3, 4\], the height"),
        ({"size": [3, 4]}, r"^run lengths are None; they must add up to 12 pixels$"),
        ({"size": [3, 4], "counts": [4, 4]}, r"add up to 12 pixels$"),
        ({"size": [3, 4], "counts": [16, -4]}, r"add up to 12 pixels$"),
        ({"size": [3, 4], "counts": [True, 11]}, r"add up to 12 pixels$"),
        ({"size": [3, 4], "counts": "04"}, r"add up to 12 pixels$"),
        ({"size": [3, 4], "counts": "0zz"}, r"^run-length code contains 'z'; allowed are the characters from '0' to 'o'$"),
    ],
)
def test_check_invalid_segmentation_is_refused(segmentation, message):
    for function in (check, draw, bounds):
        with pytest.raises(ValueError, match=message):
            function(segmentation, 4, 3)


def test_check_too_large_image_is_refused_before_allocation():
    for function in (check, draw):
        with pytest.raises(
            ValueError, match=r"^image size is 1000000000 x 1000000 pixels; at most 178,956,970 pixels are allowed$"
        ):
            function({"size": [10**6, 10**9], "counts": [10**15]}, 10**9, 10**6)
