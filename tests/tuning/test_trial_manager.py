"""Which trial starts when, and how trials end that fail or whose process is lost; with a clock of the test's own."""

from __future__ import annotations

import pytest

from adjobs.errors import JobError
from adjobs.tuning.objective import parse_objectives
from adjobs.tuning.space import parse_space
from adjobs.tuning.state import Trial, TrialState
from adjobs.tuning.study import SearchConfig, Study
from tests.helpers.search import JOB, VALUES, FakeSearch


def test_next_trial_starts_as_many_as_allowed_until_the_search_is_over():
    search = FakeSearch()
    assert [search.start() for _ in range(3)] == [0, 1, None]
    for number in (0, 1):
        search.manager.on_complete(number, VALUES)
    assert [search.start(), search.start(), search.start()] == [2, 3, None]
    assert not search.manager.is_over
    for number in (2, 3):
        search.manager.on_complete(number, VALUES)
    assert search.start() is None
    assert search.manager.is_over
    assert search.closed == [0, 1, 2, 3]


def test_next_trial_first_runs_alone_until_its_memory_is_known():
    search = FakeSearch(exclusive_device=False)
    assert [search.start(), search.start()] == [0, None]
    search.manager.on_complete(0, VALUES)
    assert search.manager.peak_memory_mib == 900
    assert [search.start(), search.start()] == [1, 2]


def test_ranking_has_the_best_first_and_the_best_is_logged():
    search = FakeSearch()
    for value in (0.7, 0.9, 0.8):
        search.run(image_auroc=value)
    assert [trial.number for trial in search.manager.ranking()] == [1, 2, 0]
    assert search.best == [(0, 1), (1, 2), (1, 3)]


def test_on_process_lost_out_of_memory_is_retried_once_and_exclusively():
    search = FakeSearch(trials=3)
    assert [search.start(), search.start()] == [0, 1]
    search.manager.on_process_lost(1, "no memory", out_of_memory=True)
    # The one that needs the machine to itself waits for the other, and comes after all that can run concurrently.
    assert search.start() is None
    search.manager.on_complete(0, VALUES)
    assert search.start() == 1
    assert search.start() is None
    search.manager.on_process_lost(1, "no memory", out_of_memory=True)
    trial = search.manager.trials[1]
    assert (trial.state, trial.reason) == (TrialState.OUT_OF_MEMORY, "also without other trials beside it: no memory")
    search.run()
    assert search.manager.is_over
    assert search.opened == [0, 1, 2]


def test_on_process_lost_retries_in_the_same_run_as_often_as_allowed():
    search = FakeSearch(trials=1, max_retries=2)
    for _ in range(3):
        assert search.start() == 0
        search.manager.on_process_lost(0, "killed", out_of_memory=False)
    assert search.manager.trials[0].state == TrialState.FAILED
    assert search.manager.trials[0].reason == "worker process was lost 3 times: killed"
    assert (search.opened, search.saved) == ([0], [0, 0])
    assert search.manager.is_over


def test_on_process_lost_last_retry_is_exclusive():
    search = FakeSearch(trials=2, max_retries=2)
    assert [search.start(), search.start()] == [0, 1]
    search.manager.on_process_lost(1, "killed", out_of_memory=False)
    assert search.start() == 1
    search.manager.on_process_lost(1, "killed", out_of_memory=False)
    assert search.start() is None  # the other one is running
    search.manager.on_complete(0, VALUES)
    assert search.start() == 1


def test_reports_after_the_end_change_nothing():
    search = FakeSearch()
    search.run()
    search.manager.on_error(0, "late")
    search.manager.on_complete(0, {**VALUES, "image_auroc": 0.1})
    search.manager.on_process_lost(0, "late", out_of_memory=False)
    trial = search.manager.trials[0]
    assert (trial.state, trial.reason, trial.values["image_auroc"]) == (TrialState.COMPLETE, "", VALUES["image_auroc"])
    assert search.closed == [0]


def test_elapsed_seconds_leave_out_the_time_of_waiting():
    search = FakeSearch(trials=1)
    search.manager.next_trial()
    search.now = 50
    assert search.manager.longest_seconds == 0
    search.manager.on_start(0)
    search.now = 60
    assert search.manager.longest_seconds == 10
    search.manager.on_complete(0, VALUES)
    assert search.manager.trials[0].seconds == 10


def test_restore_number_of_a_deleted_trial_is_not_used_again():
    search = FakeSearch(trials=3)
    search.manager.restore(Trial(2, {"params.gamma": 2.0}, "run-2", {}, TrialState.COMPLETE, values=VALUES))
    assert search.start() == 3


def test_restore_trial_whose_end_was_half_recorded_is_closed():
    search = FakeSearch()
    search.manager.restore(Trial(0, {"params.gamma": 2.0}, "run-0", state=TrialState.FAILED))
    search.manager.restore(Trial(1, {"params.gamma": 1.0}, "run-1", state=TrialState.FAILED), is_closed=False)
    assert search.closed == [1]


def test_on_error_is_not_retried():
    search = FakeSearch(trials=2)
    search.start()
    search.manager.on_error(0, "loss not finite")
    assert search.manager.trials[0].state == TrialState.FAILED
    assert search.start() == 1


def test_time_budget_leaves_time_for_the_final_training():
    search = FakeSearch(trials=10, max_concurrent=1, time_budget_s=100)
    for _ in range(3):
        search.run(seconds=22)
    assert search.manager.seconds_left == 34
    # 22 more and a final training of that length do not fit into the rest.
    assert search.start() is None
    assert search.manager.is_over
    assert len(search.opened) == 3


def test_time_budget_holds_for_retries_too():
    search = FakeSearch(trials=2, time_budget_s=100)
    assert [search.start(), search.start()] == [0, 1]
    search.now = 30
    search.manager.on_complete(0, VALUES)
    search.now = 60
    search.manager.on_process_lost(1, "killed", out_of_memory=False)
    assert search.start() is None
    trial = search.manager.trials[1]
    assert (trial.state, trial.reason) == (TrialState.PRUNED, "no time was left to retry it")
    assert search.manager.is_over


def test_time_budget_counts_running_trials():
    search = FakeSearch(trials=10, time_budget_s=100)
    search.start()
    search.now = 51
    assert search.start() is None
    assert not search.manager.is_over


def test_on_report_pruners_count_validations_not_intervals():
    search = FakeSearch(pruner="asha", grace_period=3, trials=9, max_concurrent=9)
    values = {search.start(): value for value in (0.5, 0.6, 0.7, 0.8, 0.1)}
    for interval, pruned in ((41, 0), (42, 0), (43, 1)):  # after forty intervals of a stage that predicts nothing
        assert sum(search.manager.on_report(number, interval, value) for number, value in values.items()) == pruned


def test_on_report_repeated_interval_is_ignored_and_a_pruned_trial_stays_pruned():
    search = FakeSearch(pruner="asha", trials=9, max_concurrent=9)
    for number in range(5):
        search.start()
        assert not search.manager.on_report(number, 1, 0.5 + number / 10)
    search.start()
    assert search.manager.on_report(5, 1, 0.1)
    assert not search.manager.on_report(4, 1, 0.0)
    trial = search.manager.trials[5]
    assert (trial.state, trial.reason) == (TrialState.PRUNED, "asha: 0.1 after interval 1 is below its peers")
    assert search.manager.on_report(5, 2, 0.9)
    search.manager.on_process_lost(5, "stopped", out_of_memory=False)
    assert trial.state == TrialState.PRUNED


def test_restore_keeps_what_ended_and_continues_what_did_not():
    search = FakeSearch(pruner="asha", trials=4, max_concurrent=4)
    search.manager.restore(Trial(0, {"params.gamma": 2.0}, "run-0", {1: 0.6}, TrialState.COMPLETE, values=VALUES))
    search.manager.restore(Trial(1, {"params.gamma": 1.0}, "run-1", {1: 0.1}, TrialState.PRUNED))
    search.manager.restore(Trial(2, {"params.gamma": 3.0}, "run-2", {1: 0.7}))
    assert [search.start(), search.start(), search.start()] == [2, 3, None]
    assert search.opened == [3]
    assert not search.manager.on_report(2, 1, 0.0)  # already in its history
    assert [trial.number for trial in search.manager.ranking()] == [0]


def test_on_complete_undefined_objective_ends_the_search():
    search = FakeSearch(metrics=("pixel_ap",))
    search.start()
    message = "--metric pixel_ap: not defined on this validation split; available: image_auroc"
    with pytest.raises(JobError, match=message):
        search.manager.on_complete(0, VALUES)
    assert search.manager.trials[0].state == TrialState.FAILED


def test_next_trial_exhausted_space_ends_the_search():
    space = parse_space({"method": "cdo", "parameters": {"params.mom": {"choice": [True, False]}}}, "space")
    search = FakeSearch(trials=9)
    search.manager.study = Study(space, JOB, parse_objectives((), JOB), SearchConfig("random", "none", 1, 0))
    search.run()
    search.run()
    assert search.start() is None
    assert search.manager.is_over
    assert search.opened == [0, 1]


def test_on_report_of_the_last_interval_never_prunes():
    search = FakeSearch(pruner="asha", max_concurrent=1, trials=3)
    search.start()
    for interval, value in ((1, 0.9), (2, 0.9)):
        assert not search.manager.on_report(0, interval, value, is_last=interval == 2)
    search.manager.on_complete(0, VALUES)
    search.start()
    assert not search.manager.on_report(1, 1, 0.1, is_last=True)
    search.manager.on_complete(1, {**VALUES, "image_auroc": 0.1})
    assert search.manager.trials[1].state == TrialState.COMPLETE
    search.start()
    assert search.manager.on_report(2, 1, 0.05)  # as it would be with more to train
    assert search.manager.trials[2].state == TrialState.PRUNED
