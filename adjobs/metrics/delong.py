"""Variance of the AUROC, and covariance of several on the same images: DeLong's, from ranks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from adjobs.metrics.inputs import Bools, Floats


class DeLong(NamedTuple):
    """AUROC of k sets of scores on the same images.

    Attributes:
        areas: ``(k,)``.
        covariance: ``(k, k)`` of the areas.
        placements: ``(k, N)``, for each image the share of the other class that it is on the right side of, ties counted half.
    """

    areas: Floats
    covariance: Floats
    placements: Floats


def delong(truth: Bools, scores: Floats) -> DeLong:
    """Areas and their covariance (DeLong et al. 1988) from midranks, in O(N log N) (Sun and Xu 2014).

    Args:
        truth: ``(N,)`` with at least two images of each class.
        scores: ``(k, N)``.
    """
    from scipy.stats import rankdata  # takes a second to import, which processes that evaluate nothing are spared

    m, n = int(truth.sum()), int((~truth).sum())
    overall = rankdata(scores, axis=1)
    of_anomalous = (overall[:, truth] - rankdata(scores[:, truth], axis=1)) / n
    of_normal = 1 - (overall[:, ~truth] - rankdata(scores[:, ~truth], axis=1)) / m
    placements = np.empty(scores.shape)
    placements[:, truth], placements[:, ~truth] = of_anomalous, of_normal
    covariance = np.atleast_2d(np.cov(of_anomalous)) / m + np.atleast_2d(np.cov(of_normal)) / n
    return DeLong(of_anomalous.mean(1), covariance, placements)
