"""Resamples, and their metrics against scikit-learn on weighted samples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from adjobs.metrics.bootstrap import count_outcomes, draw_resamples


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(-2, 2), st.integers(0, 3)), min_size=2, max_size=15).filter(
        lambda images: {label for label, _, weight in images if weight} == {0, 1}
    )
)
def test_count_outcomes_weighted_metrics_match_scikit_learn(images):
    labels, scores, weights = (np.array(column) for column in zip(*images, strict=True))
    outcomes = count_outcomes(labels == 1, scores.astype(float), weights[None])
    assert outcomes.auroc() == pytest.approx(oracle.roc_auc_score(labels, scores, sample_weight=weights))
    assert outcomes.ap() == pytest.approx(oracle.average_precision_score(labels, scores, sample_weight=weights))
    f1_scores = [oracle.f1_score(labels, scores >= t, sample_weight=weights) for t in scores]
    assert outcomes.f1_max() == pytest.approx(max(f1_scores))


def test_draw_resamples_keeps_size_of_each_stratum():
    strata = np.array(["a", "b", "b", "a", "b"])
    (weights,) = draw_resamples(strata, 200, 0)
    assert weights.shape == (200, 5)
    assert (weights[:, strata == "a"].sum(1) == 2).all()
    assert (weights[:, strata == "b"].sum(1) == 3).all()
    np.testing.assert_allclose(weights.mean(0), 1, atol=0.2)


def test_draw_resamples_yields_blocks_and_repeats_with_seed():
    strata = np.zeros(1 << 21, dtype=bool)
    blocks = list(draw_resamples(strata, 3, 5))
    assert [len(block) for block in blocks] == [2, 1]
    weights = np.concatenate(list(draw_resamples(np.zeros(50), 20, 5)))
    np.testing.assert_array_equal(weights, np.concatenate(list(draw_resamples(np.zeros(50), 20, np.random.default_rng(5)))))
    assert (weights != np.concatenate(list(draw_resamples(np.zeros(50), 20, 6)))).any()
