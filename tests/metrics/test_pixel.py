"""All pixel metrics from one sort, in NumPy and in PyTorch, against scikit-learn and against the definition of PRO."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from adjobs import devices
from adjobs.metrics import order, ranking
from adjobs.metrics.pixel import exact_pixel_metrics
from tests.helpers.oracles import slow_area, slow_pro_curve

LIMITS = (0.05, 0.3, 1.0)
DEVICES = [None, "cpu"]


def random_pixels(seed, levels=None, shape=(5, 9, 8), dtype=np.float32):
    rng = np.random.default_rng(seed)
    masks = rng.random(shape) < 0.1
    masks[0] = False
    masks[1, 2:4, 1:6] = True
    maps = rng.normal(size=shape) + masks
    return (maps if levels is None else np.round(maps * levels) / levels).astype(dtype), masks


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("levels", [None, 2])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_exact_pixel_metrics_match_scikit_learn_and_definition(dtype, levels, device):
    maps, masks = random_pixels(1, levels, dtype=dtype)
    metrics = exact_pixel_metrics(maps, masks, LIMITS, device)
    assert metrics.auroc == pytest.approx(oracle.roc_auc_score(masks.ravel(), maps.ravel()), abs=1e-12)
    assert metrics.ap == pytest.approx(oracle.average_precision_score(masks.ravel(), maps.ravel()), abs=1e-12)
    slow = slow_pro_curve(maps, masks)
    assert metrics.au_pro == pytest.approx({limit: slow_area(slow, limit) for limit in LIMITS}, abs=1e-12)
    f1, threshold = ranking.f1_max(masks.ravel(), maps.ravel())
    assert (metrics.f1_max, metrics.f1_max_threshold) == (pytest.approx(f1), threshold)


@pytest.mark.parametrize("levels", [None, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exact_pixel_metrics_on_device_are_the_same(dtype, levels):
    maps, masks = random_pixels(2, levels, shape=(7, 20, 30), dtype=dtype)
    expected, on_device = exact_pixel_metrics(maps, masks, LIMITS), exact_pixel_metrics(maps, masks, LIMITS, "cpu")
    assert on_device[:5] == expected[:5]
    np.testing.assert_array_equal(on_device.pro, expected.pro)


@pytest.mark.parametrize("device", DEVICES)
def test_exact_pixel_metrics_last_bit_counts_but_sign_of_zero_does_not(device):
    masks = np.array([[[False, True]]])
    high = np.nextafter(1.0, 2.0)
    assert exact_pixel_metrics(np.array([[[1.0, high]]]), masks, device=device).auroc == 1.0
    assert exact_pixel_metrics(np.array([[[high, 1.0]]]), masks, device=device).auroc == 0.0
    for zeros in ([0.0, -0.0], [-0.0, 0.0]):
        assert exact_pixel_metrics(np.array([[zeros]], dtype=np.float32), masks, device=device).auroc == 0.5


@pytest.mark.parametrize("device", DEVICES)
def test_exact_pixel_metrics_views_and_read_only_maps_are_unchanged(device):
    maps, masks = random_pixels(3)
    before = exact_pixel_metrics(maps, masks, device=device)[:4]
    original = maps.copy()
    maps.flags.writeable = False
    assert exact_pixel_metrics(maps[:, ::-1, ::-1], masks[:, ::-1, ::-1], device=device)[:4] == before
    np.testing.assert_array_equal(maps, original)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([None, 2]))
def test_exact_pixel_metrics_monotone_transform_is_unchanged(seed, levels):
    maps, masks = random_pixels(seed, levels, dtype=np.float64)
    before = exact_pixel_metrics(maps, masks)
    order = np.random.default_rng(seed).permutation(len(maps))
    for other in (exact_pixel_metrics(np.exp(maps), masks), exact_pixel_metrics(maps[order], masks[order])):
        assert other.auroc == before.auroc
        assert other.ap == pytest.approx(before.ap, abs=1e-12)
        assert other.au_pro == pytest.approx(before.au_pro, abs=1e-12)


def test_exact_pixel_metrics_equal_f1_takes_highest_threshold():
    """At 4: 1 of 2 detected, F1 = 2/3. At 1: both, and two false alarms, 4/6."""
    maps, masks = np.array([[[4.0, 3, 2, 1]]]), np.array([[[True, False, False, True]]])
    assert exact_pixel_metrics(maps, masks)[2:4] == (2 / 3, 4.0)


@pytest.mark.parametrize("value", [False, True])
@pytest.mark.parametrize("images", [0, 2])
def test_exact_pixel_metrics_without_both_classes_are_undefined(value, images):
    maps = np.zeros((images, 3, 3), dtype=np.float32)
    metrics = exact_pixel_metrics(maps, np.full(maps.shape, value), LIMITS)
    assert metrics == (None, None, None, None, dict.fromkeys(LIMITS), None)


def test_exact_pixel_metrics_invalid_limits_and_scores_are_refused():
    maps, masks = random_pixels(0)
    with pytest.raises(ValueError, match=r"limit: got 1.5, allowed are"):
        exact_pixel_metrics(maps, masks, (0.3, 1.5))
    maps[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="maps: 1 of 360 values are NaN"):
        exact_pixel_metrics(maps, masks)


def test_many_pixels_are_sorted_on_the_gpu_that_is_in_use(monkeypatch):
    rng = np.random.default_rng(0)
    maps, masks = rng.random((4, 32, 32), dtype=np.float32), rng.random((4, 32, 32)) < 0.1
    expected = exact_pixel_metrics(maps, masks)
    sorted_on, torch_sort = [], order._torch
    monkeypatch.setattr(order, "_torch", lambda device: (sorted_on.append(device), torch_sort(device))[1])
    monkeypatch.setattr(devices, "gpu_in_use", lambda: torch.device("cpu"))
    assert exact_pixel_metrics(maps, masks)[:4] == expected[:4]
    assert sorted_on == []  # too few to be worth a copy
    monkeypatch.setattr(order, "MIN_GPU_BYTES", maps.nbytes)
    assert exact_pixel_metrics(maps, masks)[:4] == expected[:4]
    assert sorted_on == ["cpu"]
    monkeypatch.setattr(devices, "free_bytes", lambda device: maps.nbytes)
    assert exact_pixel_metrics(maps, masks)[:4] == expected[:4]
    assert sorted_on == ["cpu"]  # its memory is full
