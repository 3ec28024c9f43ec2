from __future__ import annotations

import numpy as np
import pytest

from adjobs.metrics.pixel import exact_pixel_metrics
from adjobs.metrics.pixel_intervals import resample_pixel_metric
from adjobs.metrics.summary import pixel_metrics
from tests.helpers.scores import random_maps


@pytest.mark.parametrize("metric", ["pixel_auroc", "pixel_ap", "au_pro"])
def test_resample_pixel_metric_spreads_as_the_interval_of_the_metric(metric):
    maps, masks = random_maps(0)
    exact = exact_pixel_metrics(maps, masks)
    value = {"pixel_auroc": exact.auroc, "pixel_ap": exact.ap, "au_pro": exact.au_pro[0.3]}[metric]
    values = resample_pixel_metric(metric, value, maps, masks, 2000, 0)
    estimate = pixel_metrics(maps, masks, None)[metric]
    assert estimate.value == pytest.approx(value)
    assert np.quantile(values, [0.025, 0.975]) == pytest.approx([estimate.low, estimate.high], abs=0.01)


def test_resample_pixel_metric_same_seed_pairs_two_models():
    """A model that is better everywhere is better in every resample."""
    maps, masks = random_maps(0)
    better = maps + masks
    values = [resample_pixel_metric("pixel_ap", 0.5, scores, masks, 200, 3) for scores in (maps, better)]
    assert np.corrcoef(*values)[0, 1] > 0.5
