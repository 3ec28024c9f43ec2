"""Can a classifier distinguish recent images from reference images by their features? A classifier two-sample test.

A linear discriminant is fitted to one half of the images and tested on the other, and the other way round (Lopez-Paz and Oquab
2017, "Revisiting classifier two-sample tests"; Kim, Ramdas, Singh and Wasserman 2021 for the discriminant). On images that it has
not been fitted to, its values are tested like scores, with the same allowance for anomalous images and the same exact level.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from adjobs.drift.two_sample import DominanceTest
from adjobs.metrics.inputs import Floats
from adjobs.metrics.ranking import auroc

MIN_IMAGES = 20
"""Of each sample; a half of fewer images says nothing of a direction among features."""

_CLIP = 5.0  # robust standard deviations: one defect must not turn the discriminant


class Separation(NamedTuple):
    """Outcome of the test.

    Attributes:
        p_value: of both folds, for the smaller of their p-values with Bonferroni's correction.
        auroc: with which held-out images are distinguished, mean of both folds; 0.5 is chance.
    """

    p_value: float
    auroc: float


def separation(reference: Floats, recent: Floats, share: float, draws: int, generator: np.random.Generator) -> Separation:
    """Test whether features differ.

    Args:
        reference: ``(n, F)``, at least `MIN_IMAGES` rows.
        recent: ``(m, F)``, likewise.
        share: largest share of anomalous recent images that is allowed.
        draws: of the null distribution.
        generator: for halves and draws.
    """
    first, second = (np.array_split(generator.permutation(len(values)), 2) for values in (reference, recent))
    p_values, areas = [], []
    for fitted in (0, 1):
        project = _fit_discriminant(reference[first[fitted]], recent[second[fitted]])
        held_out = project(reference[first[1 - fitted]]), project(recent[second[1 - fitted]])
        test = DominanceTest.draw(len(held_out[0]), len(held_out[1]), share, draws, generator)
        p_values.append(test.p_higher(*held_out, generator))
        labels = np.repeat([0, 1], [len(held_out[0]), len(held_out[1])])
        areas.append(auroc(labels, np.concatenate(held_out)) or 0.5)
    return Separation(min(1.0, 2 * min(p_values)), float(np.mean(areas)))


class _Discriminant(NamedTuple):
    """A direction among features, higher for recent images."""

    centre: Floats
    scale: Floats
    direction: Floats

    def __call__(self, features: Floats) -> Floats:
        """``(N,)`` projections of ``(N, F)`` features."""
        return _standardise(features, self.centre, self.scale) @ self.direction


def _fit_discriminant(reference: Floats, recent: Floats) -> _Discriminant:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    low, centre, high = np.quantile(reference, (0.25, 0.5, 0.75), axis=0)
    spread = (high - low) / 1.349  # that of a normal distribution is its standard deviation
    fallback = np.concatenate([reference, recent]).std(0)  # of features that most reference images share
    scale = np.where(spread > 0, spread, np.where(fallback > 0, fallback, 1.0))
    features = _standardise(np.concatenate([reference, recent]), centre, scale)
    labels = np.repeat([0, 1], [len(reference), len(recent)])
    direction = features[labels == 1].mean(0) - features[labels == 0].mean(0)
    varies = np.maximum(features[labels == 1].std(0), features[labels == 0].std(0)) > 0
    if varies.all():  # otherwise the covariance within the samples has no inverse, and the difference of their means must do
        model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=[0.5, 0.5])  # Ledoit and Wolf's shrinkage
        direction = model.fit(features, labels).coef_[0]
    return _Discriminant(centre, scale, direction)


def _standardise(features: Floats, centre: Floats, scale: Floats) -> Floats:
    standardised: Floats = np.clip((features - centre) / scale, -_CLIP, _CLIP)
    return standardised
