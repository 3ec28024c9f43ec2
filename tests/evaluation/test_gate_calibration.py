"""The gate errs as often as it states: a small simulation with fixed draws; benchmarks/gate.py is the large one."""

from __future__ import annotations

import numpy as np
import pytest

from adjobs.evaluation.gate import evaluate_gate
from adjobs.evaluation.gate_policy import GatePolicy
from adjobs.evaluation.score_table import ScoreTable

N_NORMAL, N_ANOMALOUS, N_NEW, REPEATS = 100, 30, 18, 100


def tables(name, labels, shifts, rng):
    """Scores of two models that correlate by a half; an alarm at 2."""
    common, own = rng.normal(size=len(labels)), rng.normal(size=(2, len(labels)))
    ids = [f"{name}{i}" for i in range(len(labels))]
    return tuple(
        ScoreTable(ids, labels, np.sqrt(0.5) * (common + noise) + shift * labels, 2.0)
        for noise, shift in zip(own, shifts, strict=True)
    )


def promoted(policy, shift, new_shift, seed):
    """Share of promotions; the challenger's anomalies score ``shift`` and ``new_shift`` over normal, the champion's 3 and 1.5."""
    rng, count = np.random.default_rng(seed), 0
    labels = np.repeat([0, 1], [N_NORMAL, N_ANOMALOUS])
    for _ in range(REPEATS):
        test = tables("test", labels, (3.0, shift), rng)
        new = tables("new", np.ones(N_NEW, dtype=int), (1.5, new_shift), rng)
        count += evaluate_gate(policy, test, new).decision == "promote"
    return count / REPEATS


# Allowed: 5 % and twice the error of the simulation.
@pytest.mark.parametrize(
    ("policy", "shift", "new_shift"),
    [
        ({"auroc_margin": None, "recall_margin": None, "max_false_alarm_rate": None}, 3.0, 1.5),  # equal models
        ({"auroc_margin": None, "max_false_alarm_rate": None, "recall_margin": 0.15}, 2.5, 4.0),  # 0.84 of recall to 0.69
        ({"recall_margin": None, "max_false_alarm_rate": None, "auroc_margin": 0.04}, 2.236, 4.0),  # 0.983 of AUROC to 0.943
    ],
)
def test_gate_unfit_challengers_are_promoted_at_most_as_often_as_stated(policy, shift, new_shift):
    policy = GatePolicy.from_dict({"behaviours": []} | policy)
    assert promoted(policy, shift, new_shift, seed=0) <= 0.09


def test_gate_fit_challenger_is_promoted_often():
    policy = GatePolicy(behaviours=(), recall_margin=0.3, auroc_margin=0.1, max_false_alarm_rate=0.15)
    assert promoted(policy, 3.0, 4.0, seed=1) > 0.8
