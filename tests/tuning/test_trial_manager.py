"""The queue of trials, with a clock of its own: what starts when, and what becomes of trials that fail or die."""

from __future__ import annotations

from typing import Any

import pytest

from adjobs.config.resolve import resolve
from adjobs.errors import JobError
from adjobs.tuning.objective import objectives
from adjobs.tuning.space import parse_space
from adjobs.tuning.study import Rules, Study
from adjobs.tuning.trial_manager import Limits, Queue, Trial

JOB = resolve({"method": "cdo", "data": {"uri": "pictures"}})
SPACE = parse_space({"method": "cdo", "axes": {"params.gamma": {"uniform": [0, 4]}}}, "space")
DONE = {"image_auroc": 0.8, "ms_per_image": 5.0, "peak_memory_mib": 900.0, "train_seconds": 1.0}


class Bench:
    """A queue whose trials are opened and closed here."""

    def __init__(
        self, *, stopper: str = "none", grace: int = 1, crowded: bool = True, goals: tuple[str, ...] = (), **limits: Any
    ) -> None:
        self.now = 0.0
        self.opened: list[int] = []
        self.waiting: list[int] = []
        self.closed: list[int] = []
        study = Study(SPACE, JOB, objectives(goals, JOB), Rules("random", stopper, grace, 0))
        told = Limits(**{"trials": 4, "concurrent": 2, **limits})
        self.queue = Queue(study, told, self._open, self._wait, self._close, crowded=crowded, clock=lambda: self.now)

    def _open(self, number: int, point: dict[str, Any]) -> Trial:
        self.opened.append(number)
        return Trial(number, point, f"run-{number}")

    def _wait(self, trial: Trial) -> None:
        self.waiting.append(trial.number)

    def _close(self, trial: Trial) -> None:
        self.closed.append(trial.number)

    def start(self) -> int | None:
        trial = self.queue.next()
        if trial is None:
            return None
        self.queue.started(trial.number)
        return trial.number

    def run(self, seconds: float = 10.0, **values: float) -> None:
        """Start a trial and let it finish."""
        number = self.start()
        assert number is not None
        self.now += seconds
        self.queue.finished(number, {**DONE, **values})


def test_as_many_at_once_as_allowed_and_then_the_end():
    bench = Bench()
    assert [bench.start() for _ in range(3)] == [0, 1, None]
    for number in (0, 1):
        bench.queue.finished(number, DONE)
    assert [bench.start(), bench.start(), bench.start()] == [2, 3, None]
    assert not bench.queue.over
    for number in (2, 3):
        bench.queue.finished(number, DONE)
    assert bench.start() is None
    assert bench.queue.over
    assert bench.closed == [0, 1, 2, 3]


def test_the_first_runs_alone_until_its_memory_is_known():
    bench = Bench(crowded=False)
    assert [bench.start(), bench.start()] == [0, None]
    bench.queue.finished(0, DONE)
    assert bench.queue.peak_mib == 900
    assert [bench.start(), bench.start()] == [1, 2]


def test_the_best_and_its_order():
    bench = Bench()
    for value in (0.7, 0.9, 0.8):
        bench.run(image_auroc=value)
    assert [trial.number for trial in bench.queue.best()] == [1, 2, 0]


def test_out_of_memory_once_is_tried_again_alone_and_twice_is_said():
    bench = Bench(trials=3)
    assert [bench.start(), bench.start()] == [0, 1]
    bench.queue.died(1, "no room", memory=True)
    # The one that needs the machine for itself waits for the other, and comes after all that can run side by side.
    assert bench.start() is None
    bench.queue.finished(0, DONE)
    assert bench.start() == 1
    assert bench.start() is None
    bench.queue.died(1, "no room", memory=True)
    trial = bench.queue.trials[1]
    assert (trial.outcome, trial.reason) == ("out of memory", "even alone: no room")
    bench.run()
    assert bench.queue.over
    assert bench.opened == [0, 1, 2]


def test_a_trial_whose_process_died_goes_on_in_the_same_run_as_often_as_allowed():
    bench = Bench(trials=1, retries=2)
    for _ in range(3):
        assert bench.start() == 0
        bench.queue.died(0, "killed", memory=False)
    assert bench.queue.trials[0].outcome == "failed"
    assert "died 3 times: killed" in bench.queue.trials[0].reason
    assert (bench.opened, bench.waiting) == ([0], [0, 0])
    assert bench.queue.over


def test_the_last_try_of_what_was_killed_without_a_word_is_alone():
    bench = Bench(trials=2, retries=2)
    assert [bench.start(), bench.start()] == [0, 1]
    bench.queue.died(1, "killed", memory=False)
    assert bench.start() == 1
    bench.queue.died(1, "killed", memory=False)
    assert bench.start() is None  # the other one is at work
    bench.queue.finished(0, DONE)
    assert bench.start() == 1


def test_what_is_said_of_a_trial_after_its_end_changes_nothing():
    bench = Bench()
    bench.run()
    bench.queue.refused(0, "late")
    bench.queue.finished(0, {**DONE, "image_auroc": 0.1})
    trial = bench.queue.trials[0]
    assert (trial.outcome, trial.reason, trial.values["image_auroc"]) == ("finished", "", DONE["image_auroc"])
    assert bench.closed == [0]


def test_what_a_trial_waited_for_room_does_not_count():
    bench = Bench(trials=1)
    bench.queue.next()
    bench.now = 50
    assert bench.queue.longest == 0
    bench.queue.started(0)
    bench.now = 60
    assert bench.queue.longest == 10
    bench.queue.finished(0, DONE)
    assert bench.queue.trials[0].seconds == 10


def test_a_trial_that_was_deleted_is_not_replaced_by_its_number():
    bench = Bench(trials=3)
    bench.queue.known(Trial(2, {"params.gamma": 2.0}, "run-2", {}, "finished", values=DONE))
    assert bench.start() == 3


def test_a_trial_that_went_wrong_is_not_tried_again():
    bench = Bench(trials=2)
    bench.start()
    bench.queue.refused(0, "loss not finite")
    assert bench.queue.trials[0].outcome == "failed"
    assert bench.start() == 1


def test_no_trial_is_started_that_would_not_end_in_time_with_the_final_training():
    bench = Bench(trials=10, concurrent=1, seconds=100)
    for _ in range(3):
        bench.run(seconds=22)
    assert bench.queue.left == 34
    # 22 more and the final training of as long do not fit into what is left.
    assert bench.start() is None
    assert bench.queue.over
    assert len(bench.opened) == 3


def test_nor_is_one_tried_again():
    bench = Bench(trials=2, seconds=100)
    assert [bench.start(), bench.start()] == [0, 1]
    bench.now = 30
    bench.queue.finished(0, DONE)
    bench.now = 60
    bench.queue.died(1, "killed", memory=False)
    assert bench.start() is None
    trial = bench.queue.trials[1]
    assert (trial.outcome, trial.reason) == ("stopped early", "no time was left to try it again")
    assert bench.queue.over


def test_stoppers_count_what_was_validated_not_rounds_of_stages_that_are_not():
    bench = Bench(stopper="asha", grace=3, trials=9, concurrent=9)
    values = {bench.start(): value for value in (0.5, 0.6, 0.7, 0.8, 0.1)}
    for round_, stopped in ((41, 0), (42, 0), (43, 1)):  # forty rounds of a stage that predicts nothing came before
        assert sum(bench.queue.reported(number, round_, value) for number, value in values.items()) == stopped


def test_a_running_trial_counts_with_the_time_it_has_taken_so_far():
    bench = Bench(trials=10, seconds=100)
    bench.start()
    bench.now = 51
    assert bench.start() is None
    assert not bench.queue.over


def test_a_round_is_told_once_and_a_stopped_trial_stays_stopped():
    bench = Bench(stopper="asha", trials=9, concurrent=9)
    for number in range(5):
        bench.start()
        assert not bench.queue.reported(number, 1, 0.5 + number / 10)
    bench.start()
    assert bench.queue.reported(5, 1, 0.1)
    assert not bench.queue.reported(4, 1, 0.0)
    trial = bench.queue.trials[5]
    assert (trial.outcome, trial.reason) == ("stopped early", "asha: 0.1 after round 1 is below its peers")
    assert bench.queue.reported(5, 2, 0.9)
    bench.queue.died(5, "stopped", memory=False)
    assert trial.outcome == "stopped early"


def test_a_search_that_goes_on_keeps_what_ended_and_starts_what_did_not():
    bench = Bench(stopper="asha", trials=4, concurrent=4)
    bench.queue.known(Trial(0, {"params.gamma": 2.0}, "run-0", {1: 0.6}, "finished", values=DONE))
    bench.queue.known(Trial(1, {"params.gamma": 1.0}, "run-1", {1: 0.1}, "stopped early"))
    bench.queue.known(Trial(2, {"params.gamma": 3.0}, "run-2", {1: 0.7}))
    assert [bench.start(), bench.start(), bench.start()] == [2, 3, None]
    assert bench.opened == [3]
    assert not bench.queue.reported(2, 1, 0.0)  # told before
    assert [trial.number for trial in bench.queue.best()] == [0]


def test_a_metric_that_no_trial_has_ends_the_search_with_the_first():
    bench = Bench(goals=("pixel_ap",))
    bench.start()
    with pytest.raises(JobError, match="--metric pixel_ap: not defined on this validation part; have image_auroc"):
        bench.queue.finished(0, DONE)
    assert bench.queue.trials[0].outcome == "failed"


def test_an_exhausted_space_ends_the_search():
    small = parse_space({"method": "cdo", "axes": {"params.levels": {"choice": [2, 3]}}}, "space")
    bench = Bench(trials=9)
    bench.queue.study = Study(small, JOB, objectives((), JOB), Rules("random", "none", 1, 0))
    bench.run()
    bench.run()
    assert bench.start() is None
    assert bench.queue.over
    assert bench.opened == [0, 1]
