"""Which settings are trained with further seeds, and which of them is the choice."""

from __future__ import annotations

import pytest

from adjobs.tuning.finalists import Finalist, deviation_over_seeds, further_seeds, rank_finalists
from adjobs.tuning.objective import Objective
from adjobs.tuning.state import Trial, TrialState
from tests.helpers.search import VALUES, FakeSearch

AUROC = Objective("image_auroc", "max")


def seeds_of(search: FakeSearch) -> list[tuple[object, object]]:
    return [(trial.params.get("params.gamma"), trial.params.get("train.seed")) for trial in search.manager.trials.values()]


def run_searched(**limits: int) -> FakeSearch:
    """Four trials, of which the last two are the best; the job as it is has gamma 2."""
    search = FakeSearch(max_concurrent=1, **limits)
    for value in (0.5, 0.6, 0.9, 0.8):
        search.run(image_auroc=value)
    return search


def test_repeats_are_of_the_two_best_trials_and_the_job_as_it_is():
    search = run_searched(repeats=2)
    gammas = [search.manager.trials[number].params["params.gamma"] for number in (2, 3, 0)]
    assert not search.manager.is_over
    for value in (0.6, 0.7, 0.5, 0.7, 0.8, 0.4):
        search.run(image_auroc=value)
    assert (search.start(), search.manager.is_over) == (None, True)
    assert seeds_of(search)[4:] == [(gamma, seed) for seed in (1, 2) for gamma in gammas]
    assert [trial.number for trial in search.manager.ranking()] == [2, 3, 1, 0]  # without repeats
    assert [finalist.number for finalist in search.manager.finalists()] == [3, 2, 0]
    assert search.manager.finalists()[0].values == {0: 0.8, 1: 0.7, 2: 0.8}
    assert search.best[-1] == (2, 4)  # a repeat is no best trial


def test_repeats_wait_until_all_trials_have_ended():
    search = FakeSearch(repeats=1, trials=2)
    assert [search.start(), search.start(), search.start()] == [0, 1, None]
    search.manager.on_complete(0, VALUES)
    assert search.start() is None
    search.manager.on_complete(1, VALUES)
    assert [search.start(), search.start()] == [2, 3]


def test_repeats_that_fail_or_lack_time_leave_the_choice_to_the_seeds_that_all_have():
    search = run_searched(repeats=1)
    search.start()
    search.manager.on_error(4, "loss not finite")
    search.run(image_auroc=0.95)  # of the second
    search.run(image_auroc=0.5)
    assert search.manager.is_over
    assert [finalist.number for finalist in search.manager.finalists()] == [2, 3, 0]
    late = run_searched(repeats=1, time_budget_s=60)
    assert (late.start(), late.manager.is_over) == (None, True)


def test_repeats_of_a_resumed_search_are_not_done_again():
    search = run_searched(repeats=1)
    search.run(image_auroc=0.7)
    resumed = FakeSearch(repeats=1)
    for trial in search.manager.trials.values():
        resumed.manager.restore(trial)
    assert [resumed.start(), resumed.start(), resumed.start()] == [5, 6, None]
    assert seeds_of(resumed) == [*seeds_of(search), *((search.manager.trials[i].params["params.gamma"], 1) for i in (3, 0))]


def test_repeats_none_are_wanted_or_none_has_completed():
    assert run_searched().manager.is_over
    search = FakeSearch(trials=1, repeats=2)
    search.start()
    search.manager.on_error(0, "loss not finite")
    assert (search.start(), search.manager.is_over, search.manager.finalists()) == (None, True, [])


def test_total_counts_the_repeats():
    search = FakeSearch(trials=4, repeats=2)
    assert search.manager.total == 8
    search.run()
    assert search.manager.total == 8  # as long as one trial alone has ended
    assert run_searched(repeats=2).manager.total == 10


def test_restored_repeat_teaches_the_study_nothing():
    search = FakeSearch(repeats=1)
    search.manager.restore(Trial(0, {"params.gamma": 2.0, "train.seed": 1}, "run", {}, TrialState.COMPLETE, values=VALUES))
    assert not search.manager.study._study.get_trials()
    assert search.start() == 1


def test_rank_finalists_by_the_mean_over_common_seeds_and_by_direction():
    finalists = [Finalist(1, {0: 0.9, 1: 0.5}), Finalist(2, {0: 0.8, 1: 0.7, 2: 0.1}), Finalist(3, {0: 0.8, 1: 0.7})]
    assert [finalist.number for finalist in rank_finalists(finalists, AUROC)] == [2, 3, 1]
    assert [finalist.number for finalist in rank_finalists(finalists, Objective("image_auroc", "min"))] == [1, 2, 3]


def test_deviation_over_seeds_is_pooled_over_settings():
    assert deviation_over_seeds([Finalist(0, {0: 0.5, 1: 0.7}), Finalist(1, {0: 0.9, 1: 0.9})]) == pytest.approx(0.1)
    assert deviation_over_seeds([Finalist(0, {0: 0.5})]) is None


def test_further_seeds_stay_in_their_range():
    assert further_seeds(2**32 - 2, 3) == [2**32 - 1, 0, 1]
