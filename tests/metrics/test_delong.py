"""DeLong's covariance against its definition over all pairs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adjobs.metrics import ranking
from adjobs.metrics.delong import delong
from tests.helpers.oracles import slow_covariance

SCORES = st.lists(st.integers(-2, 2), min_size=2, max_size=12)


@settings(max_examples=50, deadline=None)
@given(SCORES, SCORES, st.integers(0, 10**6))
def test_delong_matches_definition(normal, anomalous, seed):
    truth = np.repeat([False, True], [len(normal), len(anomalous)])
    first = np.array(normal + anomalous, dtype=float)
    scores = np.stack((first, np.random.default_rng(seed).permutation(first)))
    areas, covariance = slow_covariance(truth, scores)
    result = delong(truth, scores)
    np.testing.assert_allclose(result.areas, areas, atol=1e-12)
    np.testing.assert_allclose(result.covariance, covariance, atol=1e-12)
    assert result.areas[0] == pytest.approx(ranking.auroc(truth, first))
