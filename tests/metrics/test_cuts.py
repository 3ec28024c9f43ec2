"""Cuts against all possible cuts."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from adjobs.metrics import cuts

labelled = st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=20).filter(
    lambda pairs: len({label for label, _ in pairs}) == 2
)


@given(labelled, st.integers(1, 40))
def test_least_cost_is_highest_of_cheapest_cuts(pairs, value):
    labels, scores = np.array(pairs, dtype=float).T

    def cost(cut):
        return value * ((labels == 1) & (scores < cut)).sum() + ((labels == 0) & (scores >= cut)).sum()

    chosen = cuts.least_cost(scores[labels == 0], scores[labels == 1], value)
    all_cuts = [np.inf, *np.unique(scores)[::-1]]
    costs = [cost(cut) for cut in all_cuts]
    assert cost(chosen) == min(costs)
    first = all_cuts[int(np.argmin(costs))]
    assert ((scores >= chosen) == (scores >= first)).all()


@given(labelled)
def test_best_f1_is_highest_of_best_cuts(pairs):
    labels, scores = np.array(pairs, dtype=float).T

    def f1(cut):
        alarms = scores >= cut
        return 2 * (alarms & (labels == 1)).sum() / (alarms.sum() + (labels == 1).sum())

    all_cuts = np.unique(scores)[::-1]
    assert cuts.best_f1(scores[labels == 0], scores[labels == 1]) == all_cuts[int(np.argmax([f1(cut) for cut in all_cuts]))]


@given(labelled, st.floats(0, 1, exclude_min=True, exclude_max=True))
def test_nearest_share_is_nearest_possible_share(pairs, value):
    scores = np.array(pairs, dtype=float)[:, 1]
    chosen = cuts.nearest_share(scores.copy(), value)
    counts = np.array([(scores >= cut).sum() for cut in [np.inf, *np.unique(scores)[::-1]]])
    target = value * len(scores)
    assert (scores >= chosen).sum() == counts[np.argmin(np.abs(counts - target))]
