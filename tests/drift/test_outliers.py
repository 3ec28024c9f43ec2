"""Recent images that differ most, and why."""

from __future__ import annotations

import numpy as np

from adjobs.drift.outliers import most_different
from adjobs.drift.verdict import ImageTable
from tests.drift.test_verdict import sample


def test_most_different_gives_the_reason():
    recent = sample(10, 1)
    recent.statistics[3, 0] = 50
    recent.scores[7] = 20
    first, second, *others = most_different(sample(50, 0), recent, [f"{i}.png" for i in range(10)], 4)
    assert (first.name, second.name) == ("3.png", "7.png")
    assert first.reason.startswith("brightness 50, reference 9")
    assert first.reason.endswith("grey levels")
    assert second.reason.startswith("score 20, reference -")
    assert second.score == 20
    assert len(others) == 2


def test_most_different_by_features():
    recent = sample(10, 1)
    recent.features[4] += 40
    first = most_different(sample(50, 0), recent, [f"{i}.png" for i in range(10)], 1)[0]
    assert first.name == "4.png"
    assert first.reason.startswith("distance of features ")


def test_most_different_with_constant_reference_values():
    table = ImageTable(np.zeros(5), np.zeros((5, 9)), np.zeros((5, 2)))
    assert [image.distance for image in most_different(table, table, list("abcde"), 2)] == [0, 0]
