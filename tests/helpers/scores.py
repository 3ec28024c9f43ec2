"""Random scores and anomaly maps for tests of metrics."""

import numpy as np


def random_scores(seed, m=25, n=40, shift=1.2, levels=None):
    """Labels and scores of m anomalous and n normal images; with ``levels`` scores tie."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([1, 0], [m, n])
    scores = rng.normal(size=m + n) + shift * labels
    return labels, scores if levels is None else np.round(scores * levels) / levels


def random_maps(seed, images=14, size=24, strength=2.0):
    """Normal images, then images with a region of 16 pixels and, every other estimate, estimate of 2 pixels."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((images, size, size), dtype=bool)
    masks[images // 2 :, 3:7, 4:8] = True
    masks[images // 2 :: 2, 15, 10:12] = True
    maps = rng.normal(size=masks.shape) + strength * masks * rng.uniform(0.5, 1.5, (images, 1, 1))
    return maps.astype(np.float32), masks
