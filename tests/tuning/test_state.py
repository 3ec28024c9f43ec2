"""States of trials in words, and values of trials that did not complete."""

from __future__ import annotations

from adjobs.tuning.objective import Objective
from adjobs.tuning.state import Trial, TrialState

OBJECTIVES = (Objective("image_auroc", "max"),)


def test_trial_state_has_a_label_and_knows_failures():
    assert [state.label for state in TrialState] == ["complete", "pruned", "out of memory", "failed"]
    assert [state.is_failure for state in TrialState] == [False, False, True, True]


def test_objective_values_of_an_incomplete_trial_are_none():
    values = {"image_auroc": 0.5}
    assert Trial(1, {}, "run", {3: 0.5}, TrialState.PRUNED, "", values).objective_values(OBJECTIVES) is None
    assert Trial(1, {}, "run", {3: 0.5}, TrialState.COMPLETE).objective_values(OBJECTIVES) is None
    assert Trial(1, {}, "run", {3: 0.5}, TrialState.COMPLETE, "", values).objective_values(OBJECTIVES) == (0.5,)
