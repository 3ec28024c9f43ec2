"""Results of a search made from its trials, and its figures."""

from __future__ import annotations

import pytest

from adjobs.metrics.intervals import Estimate
from adjobs.tuning import summary
from adjobs.tuning.objective import Objective
from adjobs.tuning.state import TrialState
from tests.helpers.search import FakeSearch

AUROC = Objective("image_auroc", "max")


@pytest.fixture
def search() -> FakeSearch:
    """Two objectives: trial 0 is the best, 1 the fastest, 2 in between and dominated, 3 failed."""
    search = FakeSearch(metrics=("image_auroc", "ms_per_image"))
    for value, cost in ((0.9, 20.0), (0.7, 5.0), (0.6, 6.0)):
        search.run(image_auroc=value, ms_per_image=cost)
    search.start()
    search.manager.on_error(3, "loss not finite")
    return search


def test_summarise_study_has_every_trial(search):
    result = summary.summarise_study(search.manager)
    assert [trial.state for trial in result.trials] == [TrialState.COMPLETE] * 3 + [TrialState.FAILED]
    assert result.trials[3].reason == "loss not finite"
    assert (result.best.number, result.best.run_id, result.best.params) == (0, "run-0", {"params.gamma": 2.0})
    assert result.baseline == 0.9
    assert result.pareto == (0, 1)
    assert [trial.number for trial in result.ranking()] == [0, 1, 2]


def test_draw_study_figures_reach_to_the_last_trial(search):
    figures = summary.draw_study(search.manager, summary.summarise_study(search.manager))
    assert {"history", "pareto"} <= set(figures)
    best = next(line for line in figures["history"].axes[0].lines if line.get_label() == "best so far")
    assert list(best.get_xdata()) == [0, 1, 2, 3]  # the last one failed
    assert list(best.get_ydata()) == [0.9] * 4


def test_draw_study_of_one_trial_has_the_history_alone():
    search = FakeSearch()
    search.run()
    assert set(summary.draw_study(search.manager, summary.summarise_study(search.manager))) == {"history"}


def test_describe_study_starts_with_the_best_trial_and_what_the_test_says(search):
    study = summary.summarise_study(search.manager)
    optimism = summary.compute_optimism([AUROC], study.best.values, {"test/image_auroc": Estimate(0.8)})
    blocks = summary.describe_study("cdo", study, optimism, "run", "final").split("\n\n")
    assert blocks[0] == (
        "Best of 4 trials of `cdo`: trial 0, validation image AUROC 0.9000 (the job as it is: 0.9000); "
        "trained in full, 0.8000 on the test images."
    )
    assert [line.split("&emsp;")[0] for line in blocks[1].splitlines()] == [
        "| trial",
        "|:---|:---|:---|:---|",
        "| 0",
        "| 1",
        "| 2",
    ]
    assert blocks[2].endswith("(get-artifact?path=description.png&run_uuid=run)")
    assert "`adjobs predict --model final IMAGES`" in blocks[3]


def test_describe_study_shows_what_another_seed_changes():
    search = FakeSearch(trials=2, max_concurrent=1, repeats=1)
    for value in (0.8, 0.9, 0.8, 0.82):
        search.run(image_auroc=value)
    study = summary.summarise_study(search.manager)
    assert (study.best.number, study.seeds, len(study.searched), len(study.trials)) == (1, [0, 1], 2, 4)
    assert study.to_dict()["finalists"][0] == {"number": 1, "values": {0: 0.9, 1: 0.8}, "mean": pytest.approx(0.85)}
    assert study.seed_table() == (
        ["trial", "seed 0", "seed 1", "mean"],
        [["1", "0.9000", "0.8000", "0.8500"], ["0, the job as it is", "0.8000", "0.8200", "0.8100"]],
    )
    verdict = "another seed changes image_auroc by 0.0510 (standard deviation); the best is ahead of the job as it is by 0.0400, "
    assert study.seed_verdict() == verdict + "no more than that"
    blocks = summary.describe_study("cdo", study, {}, "run", "final").split("\n\n")
    assert blocks[0].startswith("Best of 2 trials")
    assert blocks[3] == f"{study.seed_verdict()}."
    assert len(summary.draw_study(search.manager, study)["history"].axes[0].lines[0].get_xdata()) == 2


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ((0.8, 0.9, 0.7, 0.99), "on average no trial is better than the job as it is"),
        ((0.8, 0.9, 0.92, 0.81), "ahead of the job as it is by 0.1050, more than that"),
    ],
)
def test_seed_verdict_says_whether_the_search_has_gained_anything(values, verdict):
    search = FakeSearch(trials=2, max_concurrent=1, repeats=1)
    for value in values:
        search.run(image_auroc=value)
    assert summary.summarise_study(search.manager).seed_verdict().endswith(verdict)


def test_compute_optimism_is_validation_minus_test():
    best = {"image_auroc": 0.9, "ms_per_image": 5.0}
    final = {"val/image_auroc": Estimate(0.91, 0.8, 0.95), "test/image_auroc": Estimate(0.8)}
    optimism = summary.compute_optimism([AUROC, Objective("ms_per_image", "min")], best, final)
    assert set(optimism) == {"image_auroc"}  # costs have no validation
    numbers = optimism["image_auroc"]
    assert numbers.gap == pytest.approx(0.1)
    assert (numbers.search, numbers.val, numbers.test, numbers.test_low) == (0.9, 0.91, 0.8, None)


def test_compute_optimism_of_a_minimised_metric_has_the_opposite_sign():
    final = {"test/image_auroc": Estimate(0.8)}
    optimism = summary.compute_optimism([Objective("image_auroc", "min")], {"image_auroc": 0.9}, final)
    assert optimism["image_auroc"].gap == pytest.approx(-0.1)


def test_compute_optimism_without_test_metric_is_undefined():
    assert summary.compute_optimism([AUROC], {"image_auroc": 0.9}, {})["image_auroc"].gap is None
