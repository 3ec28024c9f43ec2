"""sPRO against a slow implementation of the definition, with strict thresholds as in the paper's code, and by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adjobs.metrics.region import area_under, au_pro
from adjobs.metrics.spro import Defect, au_spro, spro_curve, stream_au_spro, stream_spro_curve
from tests.helpers.oracles import slow_area, slow_spro_curve

LIMITS = [0.01, 0.05, 0.3, 1.0]


def random_case(seed, levels=None, shape=(4, 9, 8), dtype=np.float32):
    """Normal images first and last; defects that overlap, in pieces, of any saturation."""
    rng = np.random.default_rng(seed)
    maps = rng.normal(size=shape)
    defects = [[] for _ in maps]
    for i in (1, 2):
        for _ in range(i):
            pixels = rng.random(shape[1:]) < 0.15
            pixels[3, 3] = True
            defects[i].append(Defect(pixels, float(rng.uniform(0.3, pixels.sum()))))
            maps[i][pixels] += 0.7
    return (maps if levels is None else np.round(maps * levels) / levels).astype(dtype), defects


def fully_saturated(pixels):
    return Defect(pixels, float(pixels.sum()))


@pytest.mark.parametrize("levels", [None, 1, 4])
@pytest.mark.parametrize("seed", range(4))
def test_au_spro_matches_definition(seed, levels):
    maps, defects = random_case(seed, levels)
    slow = slow_spro_curve(maps, defects)
    for limit in LIMITS:
        assert au_spro(maps, defects, limit) == pytest.approx(slow_area(slow, limit), abs=1e-12)


def test_au_spro_matches_hand_calculation():
    """Scores 6 5 4 3 2 1. Defect at 6, 4, 2 with saturation 2, free pixels at 5, 3, 1.

    Pixel 6: 1/2. Free 5: FPR 1/3. Pixel 4: saturated. Its last pixel adds nothing. Area to 0.5: 1/3 · 1/2 + 1/6 · 1.
    """
    maps = np.array([[[6, 5, 4, 3, 2, 1]]], dtype=np.float32)
    pixels = np.array([[1, 0, 1, 0, 1, 0]], dtype=bool)
    assert au_spro(maps, [[Defect(pixels, 2.0)]], 0.5) == pytest.approx((1 / 3 * 1 / 2 + 1 / 6) / 0.5)
    assert au_spro(maps, [[Defect(pixels, 3.0)]], 0.5) == pytest.approx((1 / 3 * 1 / 3 + 1 / 6 * 2 / 3) / 0.5)


def test_au_spro_saturation_below_one_pixel_is_reached_by_the_first():
    maps = np.array([[[3, 2, 1]]], dtype=np.float32)
    assert au_spro(maps, [[Defect(np.array([[True, False, True]]), 0.5)]], 1.0) == 1.0


def test_spro_curve_overlapping_channels_are_separate_defects():
    """The shared pixel counts for both, and once as not free: 1/2 at its score, 1 at the next; then the free pixels."""
    maps = np.array([[[4, 3, 2, 1]]], dtype=np.float32)
    first, second = np.array([[True, False, False, False]]), np.array([[True, True, False, False]])
    fpr, overlap = spro_curve(maps, [[fully_saturated(first), fully_saturated(second)]])
    assert np.unique(np.stack((fpr, overlap)), axis=1).T.tolist() == [[0, 0], [0, 0.75], [0, 1], [1, 1]]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([None, 2]), st.sampled_from(LIMITS))
def test_au_spro_connected_defects_saturated_at_area_equals_au_pro(seed, levels, limit):
    maps, _ = random_case(seed, levels)
    masks = np.zeros(maps.shape, dtype=bool)
    masks[1, 1:3, 1:5] = masks[1, 5:8, 6] = masks[2, 4:8, 2:4] = True
    boxes = [np.zeros(maps.shape[1:], dtype=bool) for _ in range(3)]
    boxes[0][1:3, 1:5] = boxes[1][5:8, 6] = boxes[2][4:8, 2:4] = True
    defects = [[], [fully_saturated(boxes[0]), fully_saturated(boxes[1])], [fully_saturated(boxes[2])], []]
    assert au_spro(maps, defects, limit) == pytest.approx(au_pro(maps, masks, limit), abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([None, 2]))
def test_au_spro_monotone_transform_is_unchanged(seed, levels):
    maps, defects = random_case(seed, levels, dtype=np.float64)
    before = pytest.approx(au_spro(maps, defects), abs=1e-12)
    order = np.random.default_rng(seed).permutation(len(maps))
    assert au_spro(np.exp(maps), defects) == before
    assert au_spro(maps[order], [defects[i] for i in order]) == before


def stream(maps, defects):
    """A callable that makes a new generator for each pass, and the list of passes."""
    passes = []

    def images():
        passes.append(0)
        yield from zip(maps, defects, strict=True)

    return images, passes


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("transform", [lambda x: x, lambda x: np.exp(9 * x), lambda x: -np.exp(9 * x), np.round])
def test_stream_au_spro_error_is_below_half_a_step(transform, dtype):
    maps, defects = random_case(5, shape=(4, 60, 80), dtype=np.float64)
    maps = transform(maps).astype(dtype)
    for limit, step in ((0.05, 1e-3), (0.3, 1e-2), (1.0, 1e-3)):
        images, passes = stream(maps, defects)
        assert stream_au_spro(images, limit, step) == pytest.approx(au_spro(maps, defects, limit), abs=step / 2)
        assert len(passes) <= 13  # the ends, the first thresholds, and 6 of 64 bits each time


def test_stream_spro_curve_steps_are_small_and_vertices_exact():
    maps, defects = random_case(6, shape=(4, 60, 80))
    fpr, overlap = stream_spro_curve(stream(maps, defects)[0], limit=1.0, step=0.005)
    exact = spro_curve(maps, defects)
    assert np.abs(np.diff(fpr)).max() <= 0.005
    # Every vertex lies on the exact curve.
    below, above = (np.searchsorted(exact.fpr, fpr, side=side) for side in ("left", "right"))
    inside = slice(1, -1)
    assert (exact.overlap[np.maximum(below[inside] - 1, 0)] <= overlap[inside] + 1e-12).all()
    assert (overlap[inside] <= exact.overlap[np.minimum(above[inside], len(exact.fpr) - 1)] + 1e-12).all()


def test_stream_au_spro_ties_are_straight_lines():
    """A constant map: one line from (0, 0) to (1, 1), however small the step."""
    maps, defects = random_case(0)
    images, passes = stream(np.full_like(maps, 0.3), defects)
    assert stream_au_spro(images, 0.05) == pytest.approx(0.025)
    assert len(passes) <= 3


def test_au_spro_without_both_classes_is_undefined():
    maps, _ = random_case(0)
    full = np.ones(maps.shape[1:], dtype=bool)
    for case in ((maps, [[]] * 4), (maps[:1], [[fully_saturated(full)]]), (maps[:0], [])):
        assert au_spro(*case) is None
        assert stream_au_spro(stream(*case)[0]) is None


def test_au_spro_invalid_arguments_are_refused():
    maps, _ = random_case(0)
    pixels = np.zeros(maps.shape[1:], dtype=bool)
    pixels[2, 2:5] = True
    for saturation in (0, -1, 3.5, np.nan):
        with pytest.raises(ValueError, match=f"saturation: got {saturation}, allowed are areas above 0 .* 3 pixels"):
            au_spro(maps[:1], [[Defect(pixels, saturation)]])
    with pytest.raises(ValueError, match=r"defect: got bool \(8, 9\), need bool of its map's shape \(9, 8\)"):
        au_spro(maps[:1], [[fully_saturated(pixels.T)]])
    with pytest.raises(ValueError, match="defect: got int64"):
        au_spro(maps[:1], [[Defect(pixels.astype(np.int64), 1)]])
    with pytest.raises(ValueError, match="maps: 1 of 72 values are NaN"):
        stream_au_spro(lambda: [(np.where(pixels.cumsum().reshape(pixels.shape) == 2, np.nan, 1.0)[:, ::-1], [])])
    with pytest.raises(ValueError, match="limit: got 0"):
        au_spro(maps[:1], [[fully_saturated(pixels)]], 0)
    with pytest.raises(ValueError, match="step: got 0, allowed are"):
        stream_spro_curve(list, step=0)


def test_area_under_spro_curve_matches_au_spro():
    maps, defects = random_case(2)
    curve = spro_curve(maps, defects)
    assert [area_under(curve, limit) for limit in LIMITS] == [au_spro(maps, defects, limit) for limit in LIMITS]
