"""AU-PRO against closed forms and against a slow implementation of the definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adjobs.metrics.order import rank
from adjobs.metrics.region import SIZES, area_under, au_pro, find_regions, pro_curve, pro_from_ranks
from tests.helpers.oracles import slow_area, slow_pro_curve

LIMITS = [0.01, 0.05, 0.3, 0.77, 1.0]


def random_case(seed, levels, shape=(3, 9, 8)):
    rng = np.random.default_rng(seed)
    masks = rng.random(shape) < 0.15
    masks[0] = False  # a normal image
    masks[1, 2:4, 1:6] = True
    maps = rng.normal(size=shape) + 0.7 * masks
    return (maps if levels is None else np.round(maps * levels) / levels).astype(np.float32), masks


@pytest.mark.parametrize("levels", [None, 1, 4])
@pytest.mark.parametrize("seed", range(5))
def test_au_pro_matches_definition(seed, levels):
    maps, masks = random_case(seed, levels)
    for limit in LIMITS:
        assert au_pro(maps, masks, limit) == pytest.approx(slow_area(slow_pro_curve(maps, masks), limit), abs=1e-12)


@pytest.mark.parametrize("levels", [None, 2])
def test_pro_curve_matches_definition(levels):
    maps, masks = random_case(7, levels)
    fpr, pro = pro_curve(maps, masks)
    slow_fpr, slow_pro = np.array(slow_pro_curve(maps, masks)).T
    between = np.linspace(0, 1, 997)  # prime, so that no point is also a vertex but the ends
    np.testing.assert_allclose(np.interp(between, fpr, pro), np.interp(between, slow_fpr, slow_pro), atol=1e-12)
    assert (fpr[0], pro[0], fpr[-1], pro[-1]) == (0, 0, 1, 1)
    assert (np.diff(fpr) >= 0).all()
    assert (np.diff(pro) >= 0).all()


@pytest.mark.parametrize("levels", [None, 2])
def test_pro_from_ranks_of_one_size_ignores_other_regions(levels):
    """Regions of 1, 12 and 150 pixels of 1,600: below 0.1 %, below 1 %, and more. Other regions are no false alarms."""
    rng = np.random.default_rng(3)
    masks = np.zeros((2, 40, 40), dtype=bool)
    masks[0, 2, 2] = masks[1, 20:22, 5:11] = masks[1, 2:12, 20:35] = True
    maps = rng.normal(size=masks.shape) + masks
    maps = (maps if levels is None else np.round(maps * levels) / levels).astype(np.float32)
    ranks, regions = rank(maps, masks), find_regions(masks)
    areas = {"small": 1, "medium": 12, "large": 150}
    for size, area in areas.items():
        curve = pro_from_ranks(ranks, regions, regions.of_size(size))
        slow = slow_pro_curve(maps, masks, has_size=lambda pixels, area=area: pixels == area)
        for limit in LIMITS:
            assert area_under(curve, limit) == pytest.approx(slow_area(slow, limit), abs=1e-12), size


def test_of_size_bounds_have_no_gap():
    """In an image of 10,000 pixels: 9 small, 10 and 99 medium, 100 large."""
    masks = np.zeros((4, 100, 100), dtype=bool)
    for mask, area in zip(masks, (9, 10, 99, 100), strict=True):
        mask.ravel()[:area] = True
    regions = find_regions(masks)
    assert {size: regions.of_size(size).tolist() for size in SIZES} == {
        "small": [True, False, False, False],
        "medium": [False, True, True, False],
        "large": [False, False, False, True],
    }


def test_pro_from_ranks_without_regions_is_none():
    maps, masks = random_case(0, None)
    assert pro_from_ranks(rank(maps, masks), find_regions(masks), np.zeros(len(find_regions(masks).areas), dtype=bool)) is None


@pytest.mark.parametrize("limit", LIMITS)
def test_au_pro_perfect_and_inverted_maps_are_one_and_zero(limit):
    """Every defect pixel above every free one: PRO 1 from FPR 0 on. Below: PRO 0 until FPR 1."""
    _, masks = random_case(0, None)
    assert au_pro(masks.astype(np.float32), masks, limit) == pytest.approx(1.0, abs=1e-12)
    assert au_pro(-masks.astype(np.float32), masks, limit) == 0.0


@pytest.mark.parametrize("limit", LIMITS)
def test_au_pro_constant_map_is_half_the_limit(limit):
    """All pixels tie: one segment from (0, 0) to (1, 1), area limit² / 2, divided by the limit."""
    _, masks = random_case(0, None)
    assert au_pro(np.full(masks.shape, 0.4), masks, limit) == pytest.approx(limit / 2)


def test_au_pro_ramp_matches_hand_calculation():
    """Scores 6 5 4 3 2 1, defects at 6 and 3 (one region each), free pixels at 5 4 2 1.

    The curve: (0, 0) (0, 1/2) (1/4, 1/2) (1/2, 1/2) (1/2, 1) (3/4, 1) (1, 1).
    To 0.3: 0.3 · 1/2, divided by 0.3: 1/2. To 0.6: 1/2 · 1/2 + 0.1 · 1 = 0.35, divided by 0.6. To 1: 1/4 + 1/2.
    """
    maps = np.array([[[6, 5, 4, 3, 2, 1]]], dtype=np.float32)
    masks = np.array([[[1, 0, 0, 1, 0, 0]]], dtype=bool)
    assert au_pro(maps, masks, 0.3) == pytest.approx(0.5)
    assert au_pro(maps, masks, 0.5) == pytest.approx(0.5)
    assert au_pro(maps, masks, 0.6) == pytest.approx(0.35 / 0.6)
    assert au_pro(maps, masks, 1.0) == pytest.approx(0.75)


def test_au_pro_tie_across_limit_is_interpolated():
    """One defect and one of two free pixels tie at 2, the other free one is at 1: (0, 0) (1/2, 1) (1, 1).

    At the limit 1/4 the line stands at 1/2: area 1/2 · 1/4 · 1/2 = 1/16, divided by 1/4.
    """
    maps = np.array([[[2, 2, 1]]], dtype=np.float32)
    masks = np.array([[[True, False, False]]])
    fpr, pro = pro_curve(maps, masks)
    assert np.unique(np.stack((fpr, pro)), axis=1).T.tolist() == [[0, 0], [0.5, 1], [1, 1]]
    assert au_pro(maps, masks, 0.25) == pytest.approx(0.25)


def test_au_pro_regions_have_equal_weight():
    """A region of 8 pixels is missed, one of a single pixel is detected: PRO 1/2, though 1 of 9 defect pixels is detected."""
    masks = np.zeros((2, 4, 8), dtype=bool)
    masks[0, 0] = masks[1, 2, 2] = True
    maps = np.ones(masks.shape, dtype=np.float32)
    maps[1, 2, 2], maps[0, 0] = 2, 0
    assert au_pro(maps, masks, 0.3) == pytest.approx(0.5)


def test_au_pro_pixels_touching_at_a_corner_are_one_region():
    """A diagonal of 3 pixels, one detected, and a separate pixel, detected: (1/3 + 1) / 2; four regions would give 2/4."""
    masks = np.zeros((1, 5, 8), dtype=bool)
    masks[0, [0, 1, 2, 4], [0, 1, 2, 6]] = True
    maps = np.ones(masks.shape, dtype=np.float32)
    maps[masks] = [2, 0, 0, 2]
    assert au_pro(maps, masks, 0.3) == pytest.approx(2 / 3)


def test_au_pro_regions_do_not_cross_images():
    """The same pixel in two images: two regions; one detected, 1/2. Both images' free pixels count: 1 false alarm of 6."""
    masks = np.zeros((2, 1, 4), dtype=bool)
    masks[:, 0, 0] = True
    maps = np.array([[[3, 1, 1, 1]], [[0, 2, 1, 1]]], dtype=np.float32)
    fpr, pro = pro_curve(maps, masks)
    assert np.interp(1 / 12, fpr, pro) == 0.5
    assert au_pro(maps, masks, 0.3) == pytest.approx(0.5)


def test_au_pro_normal_images_lower_false_positive_rate():
    """A free pixel outranks the defect: 1 of 3 free pixels alone (PRO 0 to 1/3, then 1), 1 of 7 with a normal image."""
    maps, masks = np.array([[[2, 3, 0, 0]]], dtype=np.float32), np.array([[[True, False, False, False]]])
    assert au_pro(maps, masks, 0.3) == 0.0
    maps = np.concatenate((maps, np.zeros((1, 1, 4), dtype=np.float32)))
    masks = np.concatenate((masks, np.zeros((1, 1, 4), dtype=bool)))
    assert au_pro(maps, masks, 0.3) == pytest.approx((0.3 - 1 / 7) / 0.3)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([None, 2]), st.sampled_from(LIMITS))
def test_au_pro_monotone_transform_is_unchanged(seed, levels, limit):
    maps, masks = random_case(seed, levels)
    before = au_pro(maps, masks, limit)
    maps64 = maps.astype(np.float64)
    assert au_pro(np.exp(maps64), masks, limit) == before
    assert au_pro(3 * maps64 - 50, masks, limit) == before


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([None, 2]), st.sampled_from(LIMITS))
def test_au_pro_image_order_and_orientation_do_not_matter(seed, levels, limit):
    maps, masks = random_case(seed, levels)
    before = pytest.approx(au_pro(maps, masks, limit), abs=1e-12)
    order = np.random.default_rng(seed).permutation(len(maps))
    assert au_pro(maps[order], masks[order], limit) == before
    assert au_pro(maps[:, ::-1], masks[:, ::-1], limit) == before
    assert au_pro(maps.transpose(0, 2, 1), masks.transpose(0, 2, 1), limit) == before


@pytest.mark.parametrize("value", [False, True])
def test_au_pro_without_both_classes_is_undefined(value):
    maps = np.random.default_rng(0).random((2, 4, 4)).astype(np.float32)
    masks = np.full(maps.shape, value)
    assert au_pro(maps, masks) is None
    assert pro_curve(maps, masks) is None
    assert au_pro(maps[:0], masks[:0]) is None


@pytest.mark.parametrize("limit", [0.0, -0.1, 1.01, float("nan")])
def test_au_pro_limit_out_of_range_is_refused(limit):
    maps, masks = random_case(0, None)
    with pytest.raises(ValueError, match=f"limit: got {limit}, allowed are false-positive rates above 0 and up to 1"):
        au_pro(maps, masks, limit)


@pytest.mark.parametrize(
    ("maps", "masks", "message"),
    [
        (np.zeros((4, 4)), np.zeros((4, 4), bool), r"maps: got shape \(4, 4\), need \(images, height, width\)"),
        (np.zeros((1, 4, 4)), np.zeros((1, 4, 5), bool), r"got shapes \(1, 4, 4\) and \(1, 4, 5\)"),
        (np.zeros((1, 4, 4), int), np.zeros((1, 4, 4), bool), "maps: got int64, need floating-point scores"),
        (np.zeros((1, 4, 4)), np.zeros((1, 4, 4), np.uint8), "masks: got uint8, need bool"),
    ],
)
def test_au_pro_wrong_shapes_and_types_are_refused(maps, masks, message):
    with pytest.raises(ValueError, match=message):
        au_pro(maps, masks)


@pytest.mark.parametrize("score", [np.nan, np.inf, -np.inf])
def test_au_pro_scores_not_finite_are_refused(score):
    maps, masks = random_case(0, None)
    maps[1, 2, 3] = score
    message = r"maps: 1 of 216 values are NaN or infinite, the first at index \(1, 2, 3\)"
    with pytest.raises(ValueError, match=message):
        au_pro(maps, masks)
    with pytest.raises(ValueError, match=message):
        au_pro(maps, np.zeros_like(masks))
