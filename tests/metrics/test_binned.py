"""The binned table of a resample against the exact metrics of the resampled images."""

import numpy as np
import pytest

from adjobs.metrics.binned import count_pixels
from adjobs.metrics.order import rank
from adjobs.metrics.pixel import exact_pixel_metrics
from adjobs.metrics.region import SIZES, area_under, find_regions, pro_from_ranks
from tests.helpers.scores import random_maps


@pytest.mark.parametrize("size", [16, 80])
def test_count_pixels_resampled_table_is_close_to_exact_metrics(size):
    """With 80 x 80 pixels there are more scores than thresholds in the table."""
    maps, masks = random_maps(1, size=size)
    rng = np.random.default_rng(0)
    images = np.concatenate((rng.integers(7, size=7), rng.integers(7, 14, size=7)))
    weights = np.bincount(images, minlength=14)
    table = count_pixels(maps, masks).metrics(weights[None], (0.3, 0.05), tuple(SIZES))
    exact = exact_pixel_metrics(maps[images], masks[images], (0.3, 0.05))
    assert table["pixel_auroc"] == pytest.approx(exact.auroc, abs=0.002)
    assert table["pixel_ap"] == pytest.approx(exact.ap, abs=0.01)
    assert table["pixel_f1max"] == pytest.approx(exact.f1_max, abs=0.01)
    assert table["au_pro"] == pytest.approx(exact.au_pro[0.3], abs=0.01)
    assert table["au_pro@0.05"] == pytest.approx(exact.au_pro[0.05], abs=0.02)
    regions, ranks = find_regions(masks[images]), rank(maps[images], masks[images])
    for name in SIZES:
        curve = pro_from_ranks(ranks, regions, regions.of_size(name))
        expected = np.nan if curve is None else area_under(curve, 0.3)
        assert table[f"au_pro_{name}"] == pytest.approx(expected, abs=0.02, nan_ok=True), name
