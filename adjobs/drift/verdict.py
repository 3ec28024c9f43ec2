"""Two samples of images as arrays in, a verdict out.

Up to three tests, each at an equal share of alpha (Bonferroni), so that alpha bounds the probability that any of them reports
drift where there is none: scores, simple statistics (corrected for their number), and features. All of them allow the same share
of anomalous recent images, and take images as independent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from adjobs.drift.descriptors import STATISTICS
from adjobs.drift.options import DriftOptions
from adjobs.drift.result import StatisticShift, TestOutcome, Verdict
from adjobs.drift.separation import MIN_IMAGES, separation
from adjobs.drift.two_sample import DominanceTest
from adjobs.metrics.inputs import Floats
from adjobs.metrics.intervals import Estimate, auroc_interval
from adjobs.metrics.ranking import auroc

_RESOLUTION = 4  # draws of the null distribution that lie beyond the smallest level, so that its critical value varies little
_NEEDED = (20, 30, 40, 60, 80, 100, 150, 200, 300, 500, 1000)  # numbers of recent images to advise


@dataclass(frozen=True)
class ImageTable:
    """Descriptors of N images.

    Attributes:
        scores: ``(N,)`` of the detector.
        statistics: ``(N, 9)``, see `STATISTICS`; None where the images cannot be read.
        features: ``(N, F)``; None likewise, and where no pretrained network is installed.
    """

    scores: Floats
    statistics: Floats | None = None
    features: Floats | None = None


def compare_samples(reference: ImageTable, recent: ImageTable, options: DriftOptions, generator: np.random.Generator) -> Verdict:
    """Test whether recent images have drifted.

    Args:
        reference: of at least 2 normal images that the model was not fitted to.
        recent: of at least 2 images.
        options: levels and the allowed share of anomalous images.
        generator: for null distributions, ties, and the halves of the test of features.
    """
    n, m = len(reference.scores), len(recent.scores)
    has_statistics = reference.statistics is not None and recent.statistics is not None
    has_features = reference.features is not None and recent.features is not None and min(n, m) >= MIN_IMAGES
    level = options.alpha / (1 + has_statistics + has_features)
    draws = math.ceil(_RESOLUTION * 2 * len(STATISTICS) / level)
    test = DominanceTest.draw(n, m, options.max_anomalous_share, draws, generator)
    higher = _higher_scores(reference.scores, recent.scores)
    outcomes = [_test_scores(test, reference.scores, recent.scores, higher, level, generator)]
    shifts: tuple[StatisticShift, ...] = ()
    if reference.statistics is not None and recent.statistics is not None:
        shifts = _statistic_shifts(test, reference.statistics, recent.statistics, level, generator)
        outcomes.append(_statistics_outcome(shifts, level))
    if has_features and reference.features is not None and recent.features is not None:
        outcomes.append(_test_features(reference.features, recent.features, options, level, generator))
    detectable = test.detectable_shift(level / 2, generator)
    has_drifted: bool | None = any(outcome.has_drifted for outcome in outcomes)
    needed = None
    if not has_drifted and (detectable is None or detectable > options.effect):
        has_drifted = None
        needed = _needed_images(n, m, options, level, generator)
    return Verdict(has_drifted, tuple(outcomes), shifts, higher, detectable, needed)


def _higher_scores(reference: Floats, recent: Floats) -> Estimate:
    return auroc_interval(np.repeat([0, 1], [len(reference), len(recent)]), np.concatenate([reference, recent]))


def _test_scores(
    test: DominanceTest, reference: Floats, recent: Floats, higher: Estimate, level: float, generator: np.random.Generator
) -> TestOutcome:
    direction = test.p_values(reference, recent, generator)
    word = "higher" if direction.higher <= direction.lower else "lower"
    interval = "" if higher.low is None or higher.high is None else f", 95 % interval {higher.low:.2f} to {higher.high:.2f}"
    detail = f"a recent image scores higher than a reference image with probability {higher.value or 0:.2f}{interval}"
    p_value = direction.two_sided
    sentence = f"scores are {word} ({detail})" if p_value <= level else f"no shift of scores shown ({detail})"
    return TestOutcome("scores", p_value, level, p_value <= level, sentence)


def _statistic_shifts(
    test: DominanceTest, reference: Floats, recent: Floats, level: float, generator: np.random.Generator
) -> tuple[StatisticShift, ...]:
    labels = np.repeat([0, 1], [len(reference), len(recent)])
    shifts = []
    for statistic, old, new in zip(STATISTICS, reference.T, recent.T, strict=True):
        p_value = min(1.0, len(STATISTICS) * test.p_values(old, new, generator).two_sided)
        probability = auroc(labels, np.concatenate([old, new]))
        shifts.append(
            StatisticShift(
                name=statistic.name,
                unit=statistic.unit,
                reference=float(np.median(old)),
                recent=float(np.median(new)),
                probability=0.5 if probability is None else probability,
                p_value=p_value,
                has_shifted=p_value <= level,
            )
        )
    return tuple(shifts)


def _statistics_outcome(shifts: tuple[StatisticShift, ...], level: float) -> TestOutcome:
    p_value = min(shift.p_value for shift in shifts)
    moved = sorted((shift for shift in shifts if shift.has_shifted), key=lambda shift: -abs(shift.probability - 0.5))
    sentence = ", ".join(shift.change for shift in moved) or "no simple statistic has shifted"
    return TestOutcome("statistics", p_value, level, bool(moved), sentence)


def _test_features(
    reference: Floats, recent: Floats, options: DriftOptions, level: float, generator: np.random.Generator
) -> TestOutcome:
    draws = math.ceil(_RESOLUTION * 10 / level)
    p_value, area = separation(reference, recent, options.max_anomalous_share, draws, generator)
    detail = f"a classifier distinguishes recent from reference images with AUROC {area:.2f}"
    sentence = f"features differ ({detail})" if p_value <= level else f"no difference of features shown ({detail})"
    return TestOutcome("features", p_value, level, p_value <= level, sentence)


def _needed_images(n: int, m: int, options: DriftOptions, level: float, generator: np.random.Generator) -> int | None:
    """The smallest of some numbers of recent images with which the required shift is detectable."""
    draws = math.ceil(_RESOLUTION * 10 / level)
    for count in (count for count in _NEEDED if m < count <= options.limit):
        test = DominanceTest.draw(n, count, options.max_anomalous_share, draws, generator)
        shift = test.detectable_shift(level / 2, generator)
        if shift is not None and shift <= options.effect:
            return count
    return None
