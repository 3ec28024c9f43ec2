"""What searcher, scheduler and callback pass from Ray Tune to the trial manager."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from adjobs.config.job import TrainSection
from adjobs.errors import TrackingError
from adjobs.training.resources import WorkerResources
from adjobs.tuning.resources import TrialResources
from adjobs.tuning.state import TrialState
from adjobs.tuning.tune_bridge import _QueueCallback, _QueueScheduler, _QueueSearcher, _TuneBridge, resolve_trial_resources
from tests.helpers.search import VALUES, FakeSearch

RESOURCES = TrialResources(WorkerResources(2, 0.0), 4, workers=1, gpu_mib=0.0, context_mib=0.0, node_mib=8000)


class FakeTune:
    """Calls what Ray Tune would call."""

    def __init__(self, **options: Any) -> None:
        self.manager = FakeSearch(**options).manager
        self.bridge = _TuneBridge(self.manager, lambda trial: SimpleNamespace(number=trial.number), RESOURCES, lambda: None)
        self.searcher = _QueueSearcher(self.bridge)
        self.scheduler = _QueueScheduler(self.bridge)
        self.callback = _QueueCallback(self.bridge)

    def start(self, trial_id: str) -> SimpleNamespace:
        config = self.searcher.suggest(trial_id)
        trial = SimpleNamespace(trial_id=trial_id, config=config, error_file=None, status="RUNNING", ERROR="ERROR")
        self.callback.on_trial_start(0, [], trial)
        return trial


def test_process_end_after_a_final_report_is_not_a_failure():
    tune = FakeTune(trials=1, max_concurrent=1, max_retries=0)
    first = tune.start("a")
    tune.scheduler.on_trial_result(None, first, {"out_of_memory": "no memory"})
    retry = tune.start("b")  # requested before the first process has ended
    tune.callback.on_trial_complete(0, [], first)
    assert tune.searcher.suggest("c") is None
    trial = tune.manager.trials[0]
    assert (trial.failures, trial.is_running, trial.state) == (1, True, None)
    tune.scheduler.on_trial_result(None, retry, {"values": json.dumps(VALUES)})
    tune.callback.on_trial_complete(0, [], retry)
    assert trial.state == TrialState.COMPLETE


def test_process_end_without_a_report_is_retried():
    tune = FakeTune(trials=1, max_retries=1)
    tune.callback.on_trial_complete(0, [], tune.start("a"))
    tune.start("b")
    assert (tune.manager.trials[0].failures, tune.manager.trials[0].is_running) == (1, True)


def test_process_that_tune_could_not_reuse_is_noticed():
    tune = FakeTune(trials=1, max_retries=1)
    broken = tune.start("a")
    broken.status = "ERROR"
    controller = SimpleNamespace(get_live_trials=lambda: [broken], get_trials=list)
    for _ in range(2):
        tune.scheduler.choose_trial_to_run(controller)
    assert tune.manager.trials[0].failures == 1
    assert not tune.manager.trials[0].is_running


def test_error_file_of_an_exception_fails_the_trial(tmp_path):
    tune = FakeTune(trials=1)
    trial = tune.start("a")
    trial.error_file = str(tmp_path / "error.txt")
    (tmp_path / "error.txt").write_text("ray::ImplicitFunc.train()\n  File x\nRuntimeError: shapes differ\n")
    tune.scheduler.on_trial_error(None, trial)
    assert (tune.manager.trials[0].state, tune.manager.trials[0].reason) == (TrialState.FAILED, "RuntimeError: shapes differ")


def test_interval_report_reaches_the_history():
    tune = FakeTune(trials=1)
    trial = tune.start("a")
    assert tune.scheduler.on_trial_result(None, trial, {"interval": 1.0, "val/image_auroc": 0.75}) == "CONTINUE"
    assert tune.scheduler.on_trial_result(None, trial, {"interval": 2.0}) == "CONTINUE"  # not validated
    assert tune.manager.trials[0].history == {1: 0.75}


@pytest.mark.parametrize(("is_last", "decision", "state"), [(0.0, "STOP", TrialState.PRUNED), (1.0, "CONTINUE", None)])
def test_interval_report_that_is_the_last_never_stops_the_trial(is_last, decision, state):
    tune = FakeTune(pruner="asha", max_concurrent=1)
    first = tune.start("a")
    tune.scheduler.on_trial_result(None, first, {"interval": 1.0, "val/image_auroc": 0.9})
    tune.scheduler.on_trial_result(None, first, {"values": json.dumps(VALUES)})
    second = tune.start("b")
    report = {"interval": 1.0, "val/image_auroc": 0.1, "is_last": is_last}
    assert tune.scheduler.on_trial_result(None, second, report) == decision
    assert tune.manager.trials[1].state == state


def test_error_of_adjobs_ends_the_search(monkeypatch):
    def refuse(number: int, params: dict[str, object]) -> None:
        raise TrackingError("no answer")

    tune = FakeTune()
    running = tune.start("a")
    monkeypatch.setattr(tune.manager._store, "open", refuse)
    assert tune.searcher.suggest("b") == tune.searcher.FINISHED
    assert str(tune.bridge.error) == "no answer"
    assert tune.searcher.suggest("c") == tune.searcher.FINISHED
    assert tune.scheduler.on_trial_result(None, running, {"interval": 1.0, "val/image_auroc": 0.5}) == "STOP"


def test_healthy_trials_that_an_error_of_adjobs_stops_are_no_failures():
    tune = FakeTune(trials=3, max_concurrent=3, max_retries=0)
    stopped, complete = tune.start("a"), tune.start("b")
    tune.bridge.error = TrackingError("no answer")
    tune.callback.on_trial_complete(0, [], stopped)
    tune.scheduler.on_trial_error(None, stopped)
    tune.scheduler.on_trial_result(None, complete, {"values": json.dumps(VALUES)})
    first, second = tune.manager.trials.values()
    assert (first.failures, first.state) == (0, None)
    assert (second.state, second.values) == (TrialState.COMPLETE, VALUES)


@pytest.mark.parametrize("content", ["", "\n \n", None])
def test_error_file_without_text_is_a_lost_process(tmp_path, content):
    tune = FakeTune(trials=1, max_retries=1)
    trial = tune.start("a")
    trial.error_file = str(tmp_path / "error.txt")
    if content is not None:
        (tmp_path / "error.txt").write_text(content)
    tune.scheduler.on_trial_error(None, trial)
    assert (tune.manager.trials[0].failures, tune.manager.trials[0].state) == (1, None)


@pytest.mark.parametrize(("workers", "of_a_trial", "at_once"), [((1, 4), 1, 12), ((2, 4), 2, 6), (4, 4, 3)])
def test_resolve_trial_resources_of_a_range_of_workers_takes_the_smallest_number(workers, of_a_trial, at_once, monkeypatch):
    nodes = [{"Alive": True, "Resources": {"CPU": 8.0, "memory": 2.0**30}}, {"Alive": True, "Resources": {"CPU": 4.0}}]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    resources = resolve_trial_resources(TrainSection(workers=workers, cpus_per_worker=1))
    assert (resources.workers, resources.max_concurrent, resources.node_mib) == (of_a_trial, at_once, 1024)
