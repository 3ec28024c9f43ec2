"""What a search says at its end."""

from __future__ import annotations

import json

import pytest

from adjobs.cli.output import to_json
from adjobs.cli.tune import describe
from adjobs.tracking.search import ChildRun
from adjobs.tuning import outcome
from adjobs.tuning.display import left, line
from adjobs.tuning.objective import Objective
from adjobs.tuning.space import in_words
from adjobs.tuning.trial_manager import Trial
from tests.tuning.test_trials import DONE, Bench

AUROC = Objective("image_auroc", "max")


@pytest.fixture
def bench() -> Bench:
    """Two objectives: trial 0 is the best, 1 the quickest, 2 in between and beaten, 3 failed."""
    bench = Bench(goals=("image_auroc", "ms_per_image"), stopper="none")
    for value, cost in ((0.9, 20.0), (0.7, 5.0), (0.6, 6.0)):
        bench.run(image_auroc=value, ms_per_image=cost)
    bench.start()
    bench.queue.refused(3, "loss not finite")
    return bench


def test_the_document_has_every_trial_and_goes_into_json(bench):
    found = json.loads(to_json(outcome.document(bench.queue)))
    assert [trial["outcome"] for trial in found["trials"]] == ["finished"] * 3 + ["failed"]
    assert found["trials"][3]["reason"] == "loss not finite"
    assert found["best"] == {"number": 0, "run_id": "run-0", "point": {"params.gamma": 2.0}, "value": 0.9}
    assert found["as_it_was"] == 0.9
    assert found["pareto"] == [0, 1]


def test_pictures_of_a_search_and_of_hardly_any(bench):
    drawn = outcome.pictures(bench.queue, outcome.document(bench.queue))
    assert {"history", "pareto"} <= set(drawn)
    best = next(line for line in drawn["history"].axes[0].lines if line.get_label() == "best so far")
    assert list(best.get_xdata()) == [0, 1, 2, 3]  # to the last trial, which failed
    assert list(best.get_ydata()) == [0.9] * 4
    one = Bench()
    one.run()
    assert set(outcome.pictures(one.queue, outcome.document(one.queue))) == {"history"}


def test_optimism_is_what_validation_promised_and_the_test_part_did_not_keep():
    best = Trial(0, {}, "run", values={"image_auroc": 0.9, "ms_per_image": 5.0})
    final = ChildRun("final", "FINISHED", {}, {"val/image_auroc": 0.91, "test/image_auroc": 0.8})
    found = outcome.optimism([AUROC, Objective("ms_per_image", "min")], best, final)
    assert found["optimism/image_auroc"] == pytest.approx(0.1)
    assert (found["search/image_auroc"], found["val/image_auroc"], found["test/image_auroc"]) == (0.9, 0.91, 0.8)
    assert not [key for key in found if "ms_per_image" in key]
    assert outcome.optimism([Objective("image_auroc", "min")], best, final)["optimism/image_auroc"] == pytest.approx(-0.1)
    assert outcome.optimism([AUROC], best, ChildRun("final", "FINISHED", {}, {}))["optimism/image_auroc"] is None


def test_the_summary_for_a_person(bench):
    chosen = {"search/image_auroc": 0.9, "val/image_auroc": 0.91, "test/image_auroc": 0.8, "optimism/image_auroc": 0.1}
    place = {"search": "mine", "run_id": "r", "final_run": "f", "model": "m", "run_url": None, "tracking_uri": "u", "seconds": 7}
    text = describe({**outcome.document(bench.queue), **place, "chosen": chosen})
    assert "trials      4: 3 finished, 1 failed" in text
    assert "best        trial 0, image_auroc 0.9000; the job as it was: 0.9000" in text
    assert "0*     0.9000       20.0000       10       gamma 2" in text
    assert "\n2      0.6000" in text
    assert "trained in full: validation 0.9100, test 0.8000" in text
    assert "optimism    0.1000" in text


def test_lines_and_the_time_left(bench):
    assert line(bench.queue.trials[0], bench.queue) == "trial 0 finished after 10 s: image_auroc 0.9000 (best so far); gamma 2"
    assert line(bench.queue.trials[3], bench.queue).startswith("trial 3 failed after 0 s: loss not finite; gamma ")
    assert left(Bench().queue) == "time left unknown"
    started = Bench(trials=10, seconds=50)
    started.run(seconds=10)
    assert left(started.queue) == "about 40 s left"


def test_a_point_in_words():
    assert in_words({"params.lr": 0.00021338, "params.mom": True, "params.floor": None}) == "lr 0.000213, mom True, floor None"
    assert in_words({}) == "the job as it is"


def test_a_trial_without_a_value_says_why():
    stopped = Trial(1, {}, "run", {3: 0.5}, "stopped early", "asha: 0.5 after round 3 is below its peers", DONE)
    assert stopped.objectives((AUROC,)) is None
