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


def test_polygon_of_whole_pixels():
    drawn = draw([[1, 0, 4, 0, 4, 2, 1, 2]], 5, 3)
    assert drawn.astype(int).tolist() == [[0, 1, 1, 1, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 0]]


def test_several_polygons_are_united_and_cut_off_at_the_edge():
    drawn = draw([[0, 0, 1, 0, 1, 1, 0, 1], [3, 1, 9, 1, 9, 6, 3, 6]], 5, 3)
    assert drawn.astype(int).tolist() == [[1, 0, 0, 0, 0], [0, 0, 0, 1, 1], [0, 0, 0, 1, 1]]


def test_run_lengths_go_down_the_columns():
    drawn = draw({"size": [2, 3], "counts": [1, 2, 3]}, 3, 2)
    assert drawn.astype(int).tolist() == [[0, 1, 0], [1, 0, 0]]


@given(masks)
def test_codes_come_back(mask):
    height, width = mask.shape
    code = encode(mask)
    assert code["size"] == [height, width]
    assert np.array_equal(draw(code, width, height), mask)
    lengths = [len(list(run)) for _, run in groupby(mask.T.ravel())]
    plain = {"size": [height, width], "counts": [0, *lengths] if mask[0, 0] else lengths}
    assert np.array_equal(draw(plain, width, height), mask)


@given(st.lists(st.floats(-5, 25), min_size=6, max_size=12).filter(lambda values: len(values) % 2 == 0))
def test_polygons_are_drawn_as_pycocotools_does(values):
    code = coco.frPyObjects([values], 15, 20)[0]
    assert int(draw([values], 20, 15).sum()) == coco.area(code)


@given(masks)
def test_bounds_hold_all_pixels_and_no_edge_without(mask):
    height, width = mask.shape
    found = bounds(encode(mask), width, height)
    if not mask.any():
        assert found is None
        return
    left, top, right, bottom = found
    inner = mask[top:bottom, left:right]
    assert inner.sum() == mask.sum()
    assert all(line.any() for line in (inner[0], inner[-1], inner[:, 0], inner[:, -1]))


def test_bounds_of_polygons_are_not_rounded_but_cut_off():
    assert bounds([[1.5, 2, 4, 2, 4, 3.25], [-3, 5, 2, 5, 2, 6]], 20, 15) == (0, 2, 4, 6)
    assert bounds([[-3, -3, -1, -3, -1, -1]], 20, 15) is None


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([], r"^got \[\]; allowed are a list of polygons or a run-length code$"),
        ("ab", r"^got 'ab'; allowed are"),
        ([[1, 2, 3, 4]], r"^got polygon \[1, 2, 3, 4\]; allowed are x and y of three or more points in turn$"),
        ([[1, 2, 3, 4, 5, 6, 7]], r"three or more points"),
        ([[1, 2, 3, 4, 5, float("nan")]], r"three or more points"),
        ([[1, 2, 3, 4, 5, 10**400]], r"three or more points"),
        ([[1, 2, 3, 4, 5, "6"]], r"three or more points"),
        ([1, 2, 3, 4, 5, 6], r"^got polygon 1; allowed"),
        ([[0, 0, 900, 0, 900, 9]], r"^got a polygon from 0 to 900 in an image of 4 x 3 pixels$"),
        ({"size": [4, 3], "counts": [12]}, r"^got a run-length code of size \[4, 3\]; allowed is \[3, 4\], the image's height"),
        ({"size": [3, 4]}, r"^got run lengths None; allowed are lengths that add up to 12 pixels$"),
        ({"size": [3, 4], "counts": [4, 4]}, r"add up to 12 pixels$"),
        ({"size": [3, 4], "counts": [16, -4]}, r"add up to 12 pixels$"),
        ({"size": [3, 4], "counts": [True, 11]}, r"add up to 12 pixels$"),
        ({"size": [3, 4], "counts": "04"}, r"add up to 12 pixels$"),
        ({"size": [3, 4], "counts": "0zz"}, r"^got 'z' in a run-length code; allowed are the characters from '0' to 'o'$"),
    ],
)
def test_what_cannot_be_drawn(segmentation, message):
    for use in (check, draw, bounds):
        with pytest.raises(ValueError, match=message):
            use(segmentation, 4, 3)


def test_images_too_large_are_refused_before_memory_is_taken():
    for use in (check, draw):
        with pytest.raises(ValueError, match=r"^got an image of 1000000000 x 1000000 pixels; allowed are 178,956,970 in all$"):
            use({"size": [10**6, 10**9], "counts": [10**15]}, 10**9, 10**6)
