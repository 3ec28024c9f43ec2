from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from adjobs.data.images import ImageError
from adjobs.data.labels.masks import (
    ANOMALOUS,
    NORMAL,
    UNKNOWN,
    Box,
    Layers,
    Shapes,
    boxes_to_blocks,
    boxes_to_mask,
    coarsen,
    mask_files,
    mask_to_blocks,
    mask_to_boxes,
    read_blocks,
    read_mask,
    resize_labels,
)
from tests.helpers.drawing import save

sides = st.integers(1, 24)
masks = st.tuples(sides, sides).flatmap(lambda shape: arrays(bool, shape))
labels = sides.flatmap(lambda side: arrays(np.uint8, (side, side), elements=st.sampled_from([NORMAL, ANOMALOUS, UNKNOWN])))


def square(side: int, rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros((side, side), dtype=bool)
    mask[rows, columns] = True
    return mask


def test_mask_files_of_all_kinds():
    a, b, kinds = Path("a.png"), Path("b.png"), Path("kinds.json")
    assert mask_files(None) == mask_files(Shapes((), 4, 4)) == ()
    assert mask_files(a) == (a,)
    assert mask_files(Layers((a, b))) == (a, b)
    assert mask_files(Layers((a, b), kinds)) == (a, b, kinds)


def test_read_mask_layers_are_united(tmp_path):
    one, two = square(8, slice(0, 2), slice(0, 3)), square(8, slice(1, 5), slice(2, 4))
    # Pixel values of two defect kinds, one of them dark.
    paths = save(tmp_path / "0.png", one.astype(np.uint8) * 254), save(tmp_path / "1.png", two.astype(np.uint8) * 3)
    assert np.array_equal(read_mask(Layers(paths)), one | two)
    assert np.array_equal(read_mask(paths[0]), one)


def test_read_mask_layers_of_different_sizes_are_refused(tmp_path):
    paths = save(tmp_path / "0.png", np.eye(8, dtype=bool)), save(tmp_path / "1.png", np.eye(9, dtype=bool))
    with pytest.raises(ImageError, match=r"its layers differ in size; all must have the size of the image$") as raised:
        read_mask(Layers(paths))
    assert raised.value.kind == "mask size"


def test_read_mask_shapes_are_united():
    mask = read_mask(Shapes(("[[0, 0, 2, 0, 2, 1, 0, 1]]", '{"size": [3, 4], "counts": [2, 3, 7]}'), 4, 3))
    assert mask.tolist() == [[True, True, False, False], [False, True, False, False], [True, False, False, False]]
    assert not read_mask(Shapes((), 4, 3)).any()


@pytest.mark.parametrize(
    ("text", "size", "message"),
    [
        ("[[1, 2]]", 4, r"^segmentation: cannot be drawn: polygon is \[1, 2\]; expected .*; export it again$"),
        ("{", 4, r"^segmentation: cannot be drawn: Expecting property name"),
        ("[]", 10**6, r"^segmentation: cannot be drawn: image size is 1000000 x 1000000 pixels; at most 178,956,970"),
    ],
)
def test_read_mask_invalid_shapes_are_refused(text, size, message):
    with pytest.raises(ImageError, match=message):
        read_mask(Shapes((text,), size, size))


@given(st.data(), sides, sides)
def test_resize_labels_stretched_grid_has_the_same_blocks(data, side, longer):
    shape = data.draw(st.tuples(st.integers(1, side), st.integers(1, side)))
    grid = data.draw(arrays(np.uint8, shape, elements=st.sampled_from([NORMAL, ANOMALOUS])))
    stretched = resize_labels(grid, side)
    assert np.array_equal(mask_to_blocks(stretched == ANOMALOUS, shape), grid)
    assert np.array_equal(resize_labels(stretched, side * longer)[::longer, ::longer], stretched)


def test_resize_labels_takes_the_label_at_the_pixel_centre():
    stripes = np.repeat(np.arange(6, dtype=np.uint8)[None], 3, axis=0)
    assert resize_labels(stripes, 3).tolist() == [[1, 3, 5]] * 3
    assert resize_labels(stripes[:, :2], 4).tolist() == [[0, 0, 1, 1]] * 4
    assert resize_labels(stripes > 2, 2).dtype == np.uint8


def test_read_blocks_by_brightness(tmp_path):
    path = save(tmp_path / "blocks.png", np.array([[0, 63, 64], [191, 192, 255]], dtype=np.uint8))
    assert read_blocks(path).tolist() == [[NORMAL, NORMAL, UNKNOWN], [UNKNOWN, ANOMALOUS, ANOMALOUS]]


def test_mask_to_boxes_of_regions():
    diagonal = np.eye(12, dtype=bool)  # one region, since corners touch
    diagonal[0, 8:11] = True
    assert mask_to_boxes(diagonal) == [Box(0, 0, 12, 12)]
    assert mask_to_boxes(diagonal, min_area=1) == [Box(0, 0, 12, 12), Box(8, 0, 11, 1)]
    assert mask_to_boxes(diagonal, min_area=13) == []


def test_mask_to_boxes_ten_pixels_get_no_box():
    assert mask_to_boxes(square(20, slice(2, 4), slice(3, 8))) == []
    assert mask_to_boxes(square(20, slice(2, 13), slice(3, 4))) == [Box(3, 2, 4, 13)]


@given(masks)
def test_mask_to_boxes_are_tight(mask):
    boxes = mask_to_boxes(mask, min_area=1)
    assert np.array_equal(boxes_to_mask(boxes, mask.shape) | mask, boxes_to_mask(boxes, mask.shape))
    for box in boxes:
        inner = mask[box.top : box.bottom, box.left : box.right]
        assert all(line.any() for line in (inner[0], inner[-1], inner[:, 0], inner[:, -1]))


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [
        (Box(1, 2, 3, 5), slice(2, 5), slice(1, 3)),
        (Box(0.9, 2.0, 3.1, 4.5), slice(2, 5), slice(0, 4)),
        (Box(-4, -4, 2, 2), slice(0, 2), slice(0, 2)),
        (Box(6, 6, 20, 20), slice(6, 8), slice(6, 8)),
        (Box(-9, 1, -2, 4), slice(0, 0), slice(0, 0)),
        (Box(9, 9, 12, 12), slice(0, 0), slice(0, 0)),
    ],
)
def test_boxes_to_mask_touched_pixels_are_true(box, rows, columns):
    assert np.array_equal(boxes_to_mask([box], (8, 8)), square(8, rows, columns))


def test_mask_to_blocks_by_fraction_of_defect_pixels():
    mask = np.zeros((10, 30), dtype=bool)
    mask[:, :10].flat[:25] = True  # 25 of 100 pixels, ε+
    mask[:2, 10:14] = True  # 8 of 100, ε−
    mask[:3, 20:23] = True  # 9 of 100
    assert mask_to_blocks(mask, (1, 3)).tolist() == [[ANOMALOUS, NORMAL, UNKNOWN]]
    assert mask_to_blocks(mask, (1, 3), anomalous=0.5).tolist() == [[UNKNOWN, NORMAL, UNKNOWN]]
    assert mask_to_blocks(mask, (1, 3), anomalous=0.09, normal=0).tolist() == [[ANOMALOUS, UNKNOWN, ANOMALOUS]]
    assert mask_to_blocks(mask, (10, 30)).tolist() == mask.astype(int).tolist()


@pytest.mark.parametrize(("anomalous", "normal"), [(0.1, 0.1), (0.1, 0.2), (1.1, 0.1), (0.5, -0.1)])
def test_mask_to_blocks_fractions_out_of_order_are_refused(anomalous, normal):
    with pytest.raises(ValueError, match=rf"are {normal} and {anomalous}; they must be 0 <= normal < anomalous <= 1"):
        mask_to_blocks(np.eye(4, dtype=bool), (2, 2), anomalous, normal)


@pytest.mark.parametrize("grid", [(0, 2), (2, 5), (5, 2)])
def test_mask_to_blocks_more_blocks_than_pixels_are_refused(grid):
    with pytest.raises(ValueError, match=r"blocks for 4 x 4 pixels; use at most one block per pixel"):
        mask_to_blocks(np.eye(4, dtype=bool), grid)
    with pytest.raises(ValueError, match=r"blocks for 4 x 4 pixels"):
        boxes_to_blocks([], (4, 4), grid)


def test_boxes_to_blocks_inside_of_boxes_is_unknown():
    boxes = [Box(0, 0, 10, 10), Box(19, 0, 20, 10), Box(28, 0, 30, 10)]  # all, a tenth and a fifth of three blocks
    assert boxes_to_blocks(boxes, (10, 30), (1, 3)).tolist() == [[UNKNOWN, NORMAL, UNKNOWN]]
    assert boxes_to_blocks(boxes, (10, 30), (1, 3), free=1).tolist() == [[UNKNOWN, UNKNOWN, UNKNOWN]]
    assert boxes_to_blocks([], (10, 30), (1, 3), free=1).tolist() == [[NORMAL, NORMAL, NORMAL]]


@given(masks, st.data())
def test_boxes_to_blocks_normal_blocks_have_few_defects(mask, data):
    grid = tuple(data.draw(st.integers(1, side)) for side in mask.shape)
    blocks = boxes_to_blocks(mask_to_boxes(mask, min_area=1), mask.shape, grid)
    assert not ((blocks == NORMAL) & (mask_to_blocks(mask, grid, 1.0, 0.1) != NORMAL)).any()


@pytest.mark.parametrize("level", ["full", "masks"])
def test_coarsen_full_level_changes_nothing(level):
    drawn = np.array([[NORMAL, ANOMALOUS], [UNKNOWN, NORMAL]], dtype=np.uint8)
    assert np.array_equal(coarsen(drawn, level, 1), drawn)


def test_coarsen_each_level():
    drawn = np.zeros((8, 8), dtype=np.uint8)
    drawn[0, 0] = drawn[1, 1] = drawn[4:6, 4] = ANOMALOUS  # a diagonal of two, and two of the 16 pixels of a block
    drawn[7, 0] = UNKNOWN
    blocks = coarsen(drawn, "blocks", 4)
    assert blocks[:4, :4].max() == UNKNOWN == blocks[4:, 4:].min()  # 2 of 16 pixels are between the two fractions
    assert blocks[:4, 4:].max() == blocks[4:7, :4].max() == NORMAL
    assert blocks[7, 0] == UNKNOWN
    boxes = coarsen(drawn, "boxes", 4)
    expected = square(8, slice(0, 2), slice(0, 2)) | square(8, slice(4, 6), slice(4, 5)) | square(8, slice(7, 8), slice(0, 1))
    assert np.array_equal(boxes == UNKNOWN, expected)
    assert (coarsen(drawn, "image", 4) == UNKNOWN).all()


@given(labels, st.sampled_from(["blocks", "boxes", "image"]), st.integers(1, 24))
def test_coarsen_never_adds_information(drawn, level, block):
    coarse = coarsen(drawn, level, min(block, len(drawn)))
    assert (coarse.shape, coarse.dtype) == (drawn.shape, np.uint8)
    assert (coarse[drawn == UNKNOWN] == UNKNOWN).all()
    if level != "blocks":  # a block may hold a few pixels of the other kind
        assert (coarse[drawn == ANOMALOUS] == UNKNOWN).all()
        assert not (coarse == ANOMALOUS).any()
    if not (drawn == ANOMALOUS).any():
        assert not (coarse == ANOMALOUS).any()
