"""Two samples in, a verdict out."""

from __future__ import annotations

import numpy as np
import pytest

from adjobs.drift.descriptors import STATISTICS
from adjobs.drift.options import DriftOptions
from adjobs.drift.verdict import ImageTable, compare_samples

BRIGHTNESS = 0  # column of the statistics


def sample(n: int, seed: int, shift: float = 0.0, brightness: float = 100.0, features: bool = True) -> ImageTable:
    generator = np.random.default_rng(seed)
    statistics = generator.normal(size=(n, len(STATISTICS)))
    statistics[:, BRIGHTNESS] += brightness
    return ImageTable(generator.normal(shift, size=n), statistics, generator.normal(size=(n, 5)) if features else None)


def compare(reference: ImageTable, recent: ImageTable, **options):
    return compare_samples(reference, recent, DriftOptions(**options), np.random.default_rng(0))


def test_compare_samples_equal_shows_no_drift():
    verdict = compare(sample(80, 0), sample(100, 1))
    assert verdict.has_drifted is False
    assert [test.name for test in verdict.tests] == ["scores", "statistics", "features"]
    assert sum(test.level for test in verdict.tests) == pytest.approx(0.01)
    assert verdict.detectable_shift < 1


def test_compare_samples_higher_scores_are_drift():
    verdict = compare(sample(80, 0), sample(100, 1, shift=1.2))
    assert verdict.has_drifted is True
    assert [test.name for test in verdict.tests if test.has_drifted] == ["scores"]
    assert verdict.tests[0].sentence.startswith("scores are higher (a recent image scores higher")
    assert verdict.higher_scores.low > 0.5


def test_compare_samples_darker_images_are_drift_with_a_name():
    verdict = compare(sample(80, 0), sample(100, 1, brightness=98))
    assert [shift.name for shift in verdict.statistics if shift.has_shifted] == ["brightness"]
    assert verdict.tests[1].sentence == "brightness 99.9 → 98.2 grey levels"


def test_compare_samples_few_images_are_undecided_and_say_how_many_are_needed():
    verdict = compare(sample(80, 0), sample(8, 1))
    assert verdict.has_drifted is None
    assert [test.name for test in verdict.tests] == ["scores", "statistics"]  # too few for features
    assert 20 <= verdict.needed_images <= 100


def test_compare_samples_few_reference_images_need_more_of_these():
    verdict = compare(sample(5, 0), sample(100, 1))
    assert (verdict.has_drifted, verdict.needed_images) == (None, None)


def test_compare_samples_few_images_far_away_are_drift_all_the_same():
    assert compare(sample(80, 0), sample(8, 1, brightness=50)).has_drifted is True


def test_compare_samples_with_scores_alone_gives_them_all_of_alpha():
    verdict = compare(ImageTable(sample(80, 0).scores), sample(100, 1))
    assert [(test.name, test.level) for test in verdict.tests] == [("scores", 0.01)]
    assert verdict.statistics == ()


def test_compare_samples_is_repeatable():
    assert compare(sample(30, 0), sample(30, 1)) == compare(sample(30, 0), sample(30, 1))


def test_compare_samples_equal_distributions_seldom_report_drift():
    options, generator = DriftOptions(alpha=0.2, max_anomalous_share=0.0), np.random.default_rng(0)
    tables = (sample(40, seed, features=False) for seed in range(160))
    drifts = [compare_samples(a, b, options, generator).has_drifted is True for a, b in zip(tables, tables, strict=True)]
    assert np.mean(drifts) < 0.36  # 99.9 % of all repetitions at 20 %
