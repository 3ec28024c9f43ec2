"""Two models' scores are joined by image, or refused in one line."""

from __future__ import annotations

import numpy as np
import pytest

from adjobs.errors import DataError
from adjobs.evaluation.score_table import ScoreTable, pair_scores
from tests.helpers.figures import make_scores

IDS = ("a", "b", "c")


def table(scores=(0.1, 0.5, 0.9), *, ids=IDS, labels=(0, 1, 1), threshold=0.4, groups=None):
    return ScoreTable(ids, labels, scores, threshold, groups)


def test_pair_scores_joins_by_image_whatever_the_order():
    challenger = table((0.8, 0.2, 0.3), ids=("c", "a", "b"), labels=(1, 0, 1))
    paired = pair_scores(table(), challenger, "test split")
    assert paired.truth.tolist() == [False, True, True]
    assert paired.challenger.tolist() == [0.2, 0.3, 0.8]
    assert paired.champion_alarms.tolist() == [False, True, True]
    assert paired.challenger_alarms.tolist() == [False, False, True]
    assert paired.unit == "images"


def test_pair_scores_images_of_one_part_are_one_unit():
    grouped = [table(scores, labels=(0, 0, 1), groups=("p", "q", "q")) for scores in ((0.1, 0.5, 0.2), (0.1, 0.2, 0.3))]
    paired = pair_scores(*grouped, "test split")
    assert paired.truth.tolist() == [False, True]
    assert paired.champion.tolist() == [0.1, 0.5]
    assert paired.challenger_alarms.tolist() == [False, False]
    assert (paired.unit, paired.names) == ("parts", {"a", "b", "c", "p", "q"})


@pytest.mark.parametrize(
    ("challenger", "message"),
    [
        (table((0.1, np.nan, 0.9)), "test split, challenger: scores: 1 of 3 values are NaN or infinite"),
        (table(threshold=np.inf), "test split, challenger: got threshold inf, need a finite number"),
        (table(ids=("a", "b", "d")), "different images: 1 only by the champion, 1 only by the challenger, such as 'c'"),
        (table(ids=("a", "b", "b")), "image 'b' is listed twice"),
        (table(labels=(0, 0, 1)), "the two tables differ in labels of 1 images, such as 'b'"),
        (table(labels=(0, 2, 1)), "labels: got 2, allowed are 0 and 1"),
        (table(groups=("p", "p", "q")), "the two tables differ in groups of 3 images"),
        (table(ids=("a", "b")), "got 2 ids, 2 groups and 3 scores"),
        (table((0.1, 0.2)), "labels and scores: got shapes"),
    ],
)
def test_pair_scores_tables_that_do_not_fit_are_refused_in_one_line(challenger, message):
    with pytest.raises(DataError) as error:
        pair_scores(table(), challenger, "test split")
    assert message in str(error.value)


def test_score_table_of_an_evaluated_split():
    scores = make_scores(3, 2, maps=False)
    paired = pair_scores(*(ScoreTable.from_image_scores(scores, threshold) for threshold in (1.0, 2.0)), "test split")
    assert paired.champion_alarms.sum() > paired.challenger_alarms.sum()
