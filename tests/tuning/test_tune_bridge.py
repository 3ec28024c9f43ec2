"""What a trial asks Ray for, and how its end is read."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from adjobs.training.backends.ray import WorkerResources
from adjobs.tuning.tune_bridge import Room, _Asks, _Hands, _Hears, _Stops, end_of
from tests.tuning.test_trials import DONE, Bench

CPU = Room(WorkerResources(2, 0.0), most=4, workers=1, gpu_mib=0.0, context_mib=0.0, node_mib=8000)
GPU = Room(WorkerResources(1, 1.0), most=8, workers=1, gpu_mib=80_000, context_mib=500, node_mib=8000)


def test_on_processors_the_measured_memory_is_asked_for():
    assert CPU.share(None, alone=False) == {"CPU": 2}
    assert CPU.share(1000, alone=False) == {"CPU": 2, "memory": 1152 * 2**20}  # 15 % more, in steps of 64 MiB
    assert CPU.share(1000, alone=True) == {"CPU": 2}
    assert CPU.share(9000, alone=False)["memory"] == 8000 * 2**20  # more than any node has would wait for ever
    assert not CPU.crowded


def test_on_gpus_the_measured_part_is_asked_for():
    assert GPU.share(None, alone=False) == {"CPU": 1, "GPU": 1.0}
    assert GPU.share(10_000, alone=False) == {"CPU": 1, "GPU": 0.16}  # 15 % more than 10,500, of 80,000, rounded up
    assert GPU.share(75_000, alone=False) == {"CPU": 1, "GPU": 1.0}
    assert GPU.share(10_000, alone=True) == {"CPU": 1, "GPU": 1.0}
    assert GPU.crowded


def test_a_trial_that_waits_for_its_workers_takes_no_processor():
    room = Room(WorkerResources(1, 0.0), most=1, workers=2, gpu_mib=0.0, context_mib=0.0, node_mib=8000)
    assert "CPU" not in room.share(None, alone=False)
    assert room.crowded


TRACEBACK = "Failure # 1\n\x1b[36mray::ImplicitFunc.train()\x1b[39m (pid=1)\n  File x\n"
# What Ray 2.60 appends to the end of any process that it lost.
LOST = (
    "Failure # 1\nThe actor died unexpectedly before finishing this task.\nThe actor is dead because its worker process has "
    "died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker unexpectedly exits with a connection error code 2. End of "
    "file. Some common causes include: (1) the process was killed by the OOM killer due to high memory usage, (2) ray stop "
    "--force was called, or (3) the worker crashed unexpectedly due to SIGSEGV or another unexpected error."
)
LOW = (
    "Failure # 1\nTask was killed due to the node running low on memory.\nMemory on the node was 7.70GB / 8.00GB (0.96).\n"
    "Top 10 memory users:\nPID\tMEM(GB)\tCOMMAND\n410\t0.84\tray::ImplicitFunc.train"
)


@pytest.mark.parametrize(
    ("text", "how"),
    [
        (f"{TRACEBACK}RuntimeError: shapes differ", "program"),
        (f"{TRACEBACK}adjobs.errors.TrackingError: MLflow: no answer", "process"),
        ("Failure # 1\nThe actor died unexpectedly before finishing this task.", "process"),
        ("Failure # 1\nThe actor c3 is unavailable: RPC error: keepalive watchdog timeout", "process"),
        (LOST, "process"),
        (LOW, "memory"),
    ],
)
def test_an_exception_comes_again_and_a_lost_process_or_service_may_not(text, how):
    assert end_of(text) == how


class Hearing:
    """Tune's ends, told by hand of trials of a queue."""

    def __init__(self, **limits: int) -> None:
        self.queue = Bench(**limits).queue
        self.hands = _Hands(self.queue, lambda trial: SimpleNamespace(number=trial.number), CPU, lambda: None)
        self.asks, self.stops, self.hears = _Asks(self.hands), _Stops(self.hands), _Hears(self.hands)

    def start(self, name: str) -> SimpleNamespace:
        trial = SimpleNamespace(trial_id=name, config=self.asks.suggest(name), error_file=None, status="RUNNING", ERROR="ERROR")
        self.hears.on_trial_start(0, [], trial)
        return trial


def test_a_trial_that_told_of_its_end_is_not_taken_for_dead_when_its_process_ends():
    tune = Hearing(trials=1, concurrent=1, retries=0)
    first = tune.start("a")
    tune.stops.on_trial_result(None, first, {"memory": "no room"})
    again = tune.start("b")  # asked for before the first one's process has ended
    tune.hears.on_trial_complete(0, [], first)
    assert tune.asks.suggest("c") is None
    trial = tune.queue.trials[0]
    assert (trial.deaths, trial.running, trial.outcome) == (1, True, None)
    tune.stops.on_trial_result(None, again, {"values": json.dumps(DONE)})
    tune.hears.on_trial_complete(0, [], again)
    assert trial.outcome == "finished"


def test_a_process_that_ends_without_a_word_is_tried_again():
    tune = Hearing(trials=1, retries=1)
    tune.hears.on_trial_complete(0, [], tune.start("a"))
    tune.start("b")
    assert (tune.queue.trials[0].deaths, tune.queue.trials[0].running) == (1, True)


def test_a_process_that_tune_could_not_use_again_is_noticed():
    tune = Hearing(trials=1, retries=1)
    broken = tune.start("a")
    broken.status = "ERROR"
    controller = SimpleNamespace(get_live_trials=lambda: [broken], get_trials=list)
    for _ in range(2):
        tune.stops.choose_trial_to_run(controller)
    assert tune.queue.trials[0].deaths == 1
    assert not tune.queue.trials[0].running
