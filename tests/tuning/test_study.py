"""What is tried next and what is pruned: repeatable when a search is resumed, nothing twice, better than random."""

from __future__ import annotations

import pytest

from adjobs.config.resolve import resolve
from adjobs.errors import JobError
from adjobs.tuning.objective import Objective, parse_objectives
from adjobs.tuning.space import Space, TrialParams, parse_space
from adjobs.tuning.study import Pruner, Sampler, SearchConfig, Study

JOB = resolve({"method": "cdo", "data": {"uri": "images"}})
OBJECTIVES = parse_objectives((), JOB)
PARAMETERS = {
    "params.gamma": {"uniform": [0, 4]},
    "params.lr": {"loguniform": [1e-4, 1e-2]},
    "params.fill": {"choice": ["uniform", "gaussian"]},
}


def make_space(parameters: dict[str, object] = PARAMETERS) -> Space:
    return parse_space({"method": "cdo", "parameters": parameters}, "space")


def make_study(
    sampler: Sampler = "tpe",
    pruner: Pruner = "none",
    *,
    parameters: dict[str, object] = PARAMETERS,
    seed: int = 0,
    grace_period: int = 1,
    objectives: tuple[Objective, ...] = OBJECTIVES,
) -> Study:
    return Study(make_space(parameters), JOB, objectives, SearchConfig(sampler, pruner, grace_period, seed))


def value_of(params: TrialParams) -> float:
    """Best at γ = 3.5, whatever the rest."""
    return 1 - abs(params["params.gamma"] - 3.5) / 4


def run_trials(study: Study, trials: int) -> list[TrialParams]:
    suggested = []
    for number in range(trials):
        params = study.suggest(number)
        study.finish(number, (value_of(params),))
        suggested.append(params)
    return suggested


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_suggest_resumed_study_suggests_the_same(sampler):
    uninterrupted = run_trials(make_study(sampler), 20)
    resumed = make_study(sampler)
    for number, params in enumerate(uninterrupted[:14]):
        resumed.add_trial(number, params)
        resumed.finish(number, (value_of(params),))
    assert resumed.suggest(14) == uninterrupted[14]


def test_suggest_baseline_is_first_and_the_seed_decides_the_others():
    assert make_study().suggest(0) == {"params.gamma": 2.0, "params.lr": 2e-4, "params.fill": "uniform"}
    assert run_trials(make_study(seed=0), 3) != run_trials(make_study(seed=1), 3)


def test_suggest_random_values_of_a_seed_stay_the_same():
    study = make_study("random")
    study.suggest(0)
    assert study.suggest(1) == {"params.gamma": 2.4595211182575416, "params.lr": 0.0002133778085486967, "params.fill": "uniform"}


def test_suggest_job_outside_the_space_is_still_first():
    study = make_study(parameters={"params.gamma": {"uniform": [3, 4]}})
    assert study.suggest(0) == {}
    study.finish(0, (0.5,))
    assert set(study.suggest(1)) == {"params.gamma"}


def test_suggest_tpe_is_better_than_random():
    by_tpe = [value_of(params) for params in run_trials(make_study("tpe"), 40)[20:]]
    at_random = [value_of(params) for params in run_trials(make_study("random"), 40)[20:]]
    assert sum(by_tpe) / 20 > sum(at_random) / 20 + 0.1


def test_suggest_small_space_ends_without_repetition():
    study = make_study(
        "random", parameters={"params.last_level": {"randint": [1, 3]}, "params.fill": {"choice": ["uniform", "gaussian"]}}
    )
    suggested = [study.suggest(number) for number in range(7)]
    assert suggested[6] is None
    assert len({tuple(sorted(params.items())) for params in suggested[:6]}) == 6


def test_suggest_grid_has_every_combination_once():
    study = make_study("grid", parameters={"params.last_level": {"randint": [1, 3]}, "params.mom": {"choice": [True, False]}})
    suggested = [study.suggest(number) for number in range(7)]
    assert suggested[0] == {"params.last_level": 1, "params.mom": True}
    assert suggested[6] is None
    assert not study.has_baseline_trial


def test_suggest_rejected_draws_are_repeated_and_counted():
    parameters = {"params.first_level": {"choice": [1, 2, 3]}, "params.last_level": {"choice": [1, 2, 3]}}
    study = make_study("random", parameters=parameters)
    suggested = [params for params in (study.suggest(number) for number in range(7)) if params]
    assert all(params["params.first_level"] <= params["params.last_level"] for params in suggested)
    assert len(suggested) == 6
    assert study.rejected_draws > 0


def test_suggest_own_check_rejects_draws():
    def check(params: TrialParams) -> None:
        if params["params.gamma"] < 2:
            raise JobError("no")

    study = Study(make_space(), JOB, OBJECTIVES, SearchConfig("random", "none", 1, 0), check)
    suggested = [study.suggest(number) for number in range(1, 9)]
    assert all(params["params.gamma"] >= 2 for params in suggested)
    assert study.rejected_draws > 0


def test_suggest_space_without_valid_values_is_refused():
    study = make_study("random", parameters={"params.first_level": {"choice": [3]}, "params.last_level": {"choice": [1, 2]}})
    study.suggest(0)
    with pytest.raises(JobError, match=r"draws in a row do not fit the method, the last: .*first_level: got 3"):
        study.suggest(1)


@pytest.mark.parametrize("pruner", ["asha", "median"])
def test_report_prunes_the_worst_and_not_the_best(pruner):
    study = make_study(pruner=pruner)
    for number in range(8):
        study.suggest(number)
        is_pruned = [study.report(number, step, 0.5 + 0.05 * number) for step in range(1, 10)]
        assert not any(is_pruned)  # each is better than those before
        study.finish(number, (0.5 + 0.05 * number,))
    study.suggest(8)
    assert [study.report(8, step, 0.1) for step in (1, 2, 3)].index(True) <= 1


def test_report_never_prunes_within_the_grace_period_nor_the_baseline():
    study = make_study(pruner="asha", grace_period=4)
    for number in range(6):
        study.suggest(number)
        assert not study.report(number, 1, 0.9 - 0.1 * number)
    with_worst_baseline = make_study(pruner="median", grace_period=1)
    for number in range(1, 7):
        with_worst_baseline.suggest(number)
        with_worst_baseline.report(number, 1, 0.9)
        with_worst_baseline.report(number, 2, 0.9)
        with_worst_baseline.finish(number, (0.9,))
    with_worst_baseline.suggest(0)
    assert not any(with_worst_baseline.report(0, step, 0.1) for step in (1, 2, 3))


def test_report_minimised_objective_prunes_high_values():
    study = make_study(pruner="asha", objectives=(Objective("image_auroc", "min"),))
    for number in range(6):
        study.suggest(number)
        assert not any(study.report(number, step, 0.9 - 0.1 * number) for step in (1, 2, 3))
    study.suggest(6)
    assert study.report(6, 1, 0.9)


def test_importance_is_largest_for_what_matters():
    study = make_study("random")
    assert study.importance() == {}
    run_trials(study, 25)
    importance = study.importance()
    assert max(importance, key=lambda key: importance[key]) == "params.gamma"
    assert sum(importance.values()) == pytest.approx(1)


def test_report_several_objectives_prune_nothing():
    study = make_study(objectives=(Objective("image_auroc", "max"), Objective("ms_per_image", "min")))
    for number in range(12):
        params = study.suggest(number)
        assert not study.report(number, 1, 0.0)
        study.finish(number, (value_of(params), 1.0))
    assert study.importance()
