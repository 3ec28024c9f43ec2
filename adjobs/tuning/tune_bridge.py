"""Ray Tune runs the trials of a search: it starts them where there are resources, and stops those that are to stop.

Tune wants a searcher, a scheduler and a callback. Here all three only pass on to the trial manager, which decides everything.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.callback import Callback
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from adjobs.config.job import TrainSection
from adjobs.errors import AdjobsError, ClusterError, one_line
from adjobs.storage import open_store
from adjobs.storage.arrow import arrow_filesystem
from adjobs.training.backends import ray as ray_backend
from adjobs.tuning.failures import FailureKind, classify_error, last_line
from adjobs.tuning.resources import TrialResources
from adjobs.tuning.state import Trial
from adjobs.tuning.trial import TrialSpec, run_trial
from adjobs.tuning.trial_manager import TrialManager

MAX_CONTEXT_MIB = 2048  # GPU memory of a process beside its tensors; more than that belongs to other processes
NO_REPORT = "process exited without reporting"
KILLED_FOR_MEMORY = "Ray killed its process because the node was running low on memory"
UNLIMITED = 10_000_000  # Tune wants a number of trials; the trial manager ends the search
FINAL_REPORTS = {"out_of_memory", "error", "values"}


def resolve_trial_resources(train: TrainSection) -> TrialResources:
    """Decide what the cluster has for each trial of a job, whose number of workers is the smallest that the job allows.

    Raises:
        ClusterError: not even one trial fits.
    """
    import ray

    is_single = train.min_workers == 1
    workers = train.min_workers
    worker = ray_backend.resolve_resources(train.model_copy(update={"workers": workers}))
    # Shares of a GPU: as many trials as processors.
    capacity = ray_backend.worker_capacity(worker._replace(gpus=0.0) if is_single else worker)
    largest = max(node["Resources"].get("memory", 0) for node in ray.nodes() if node["Alive"])
    gpu_mib, context_mib = _query_gpu_memory() if is_single and worker.gpus else (0.0, 0.0)
    return TrialResources(worker, capacity // workers, workers, gpu_mib, context_mib, largest / 2**20)


def _query_gpu_memory() -> tuple[float, float]:
    """Memory of a GPU of the cluster, and what a process takes of it beside its tensors, both in MiB."""
    import ray

    def query() -> tuple[float, float]:
        from adjobs import devices

        total, taken = devices.memory_of_libraries(devices.automatic_device())
        return total / 2**20, min(taken / 2**20, MAX_CONTEXT_MIB)

    answer: tuple[float, float] = ray.get(ray.remote(num_gpus=1, num_cpus=0)(query).remote())
    return answer


def run_trials(
    manager: TrialManager,
    spec_for: Callable[[Trial], TrialSpec],
    resources: TrialResources,
    storage: str,
    on_change: Callable[[], None],
) -> None:
    """Run trials until the manager says that the search is over.

    Args:
        manager: decides which trial starts next, and takes what becomes of it.
        spec_for: makes what the process of a trial needs to know.
        resources: of each trial.
        storage: folder or ``s3://`` URI that all nodes reach, for Tune's own files; removed afterwards.
        on_change: called after every change.

    Raises:
        AdjobsError: what the manager or MLflow raises.
    """
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    parent, _, name = storage.rpartition("/")
    path, filesystem = arrow_filesystem(parent)
    bridge = _TuneBridge(manager, spec_for, resources, on_change)
    trainable = tune.with_resources(run_trial, lambda config: tune.PlacementGroupFactory([config["bundle"]]))
    with _removed_afterwards(storage):
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=_QueueSearcher(bridge),
                scheduler=_QueueScheduler(bridge),
                num_samples=UNLIMITED,
                reuse_actors=resources.workers == 1,
            ),
            run_config=tune.RunConfig(
                name=name,
                storage_path=path,
                storage_filesystem=filesystem,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=0),
                callbacks=[_QueueCallback(bridge)],
            ),
        )
        tuner.fit()
    if bridge.error is not None:
        raise bridge.error
    if not manager.is_over:
        raise ClusterError("Ray Tune ended before all trials had; resume with 'adjobs tune --resume'")


@contextlib.contextmanager
def _removed_afterwards(storage: str) -> Iterator[None]:
    try:
        yield
    finally:
        parent, _, name = storage.rpartition("/")
        open_store(parent).delete(name)


class _TuneBridge:
    """What searcher, scheduler and callback share. An error of ours ends the search and is raised when Tune has cleaned up."""

    def __init__(
        self,
        manager: TrialManager,
        spec_for: Callable[[Trial], TrialSpec],
        resources: TrialResources,
        on_change: Callable[[], None],
    ) -> None:
        self.manager, self.spec_for, self.resources, self.on_change = manager, spec_for, resources, on_change
        self.error: AdjobsError | None = None
        # Tune's ids of the processes whose end is known: by now their trial may run again, in another process.
        self.reported_final: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its searcher to be able to resume by itself, which is not used."""
        return {}

    @contextlib.contextmanager
    def capture_errors(self) -> Iterator[None]:
        """Keep the first error of ours."""
        try:
            yield
        except AdjobsError as error:
            self.error = self.error or error

    def next_config(self) -> dict[str, Any] | str | None:
        """The configuration of the trial to start now; None to wait, or Tune's mark of the end."""
        if self.error is not None:
            return str(Searcher.FINISHED)
        trial = self.manager.next_trial()
        if trial is None:
            return str(Searcher.FINISHED) if self.manager.is_over else None
        bundle = self.resources.for_trial(self.manager.peak_memory_mib, exclusive=trial.exclusive)
        return {"spec": self.spec_for(trial), "bundle": bundle}

    def on_report(self, tune_trial: Any, report: Mapping[str, Any]) -> bool:
        """Take a report of a trial; returns whether to stop it. What a trial ended with counts also while the search is ended."""
        number = tune_trial.config["spec"].number
        if self.error is not None and FINAL_REPORTS.isdisjoint(report):
            return True
        if not FINAL_REPORTS.isdisjoint(report):
            self.reported_final.add(tune_trial.trial_id)
        if "out_of_memory" in report:
            self.manager.on_process_lost(number, report["out_of_memory"], out_of_memory=True)
        elif "error" in report:
            self.manager.on_error(number, report["error"])
        elif "values" in report:
            self.manager.on_complete(number, json.loads(report["values"]))
        else:
            value = report.get(f"val/{self.manager.study.objectives[0].metric}")
            if value is not None:
                is_last = bool(report.get("is_last"))
                return self.manager.on_report(number, int(report["interval"]), float(value), is_last=is_last)
        return False

    def on_process_end(self, tune_trial: Any, text: str) -> None:
        """Take the end of a process that reported none, with what Tune wrote about an error.

        While the search is ended, processes are stopped that nothing is wrong with; their trials can be resumed.
        """
        if self.error is not None or tune_trial.trial_id in self.reported_final:
            return
        self.reported_final.add(tune_trial.trial_id)
        number, kind = tune_trial.config["spec"].number, classify_error(text)
        reason = one_line(RuntimeError(last_line(text)))
        if kind == FailureKind.EXCEPTION:
            self.manager.on_error(number, reason)
        elif kind == FailureKind.OUT_OF_MEMORY:
            self.manager.on_process_lost(number, KILLED_FOR_MEMORY, out_of_memory=True)
        else:
            self.manager.on_process_lost(number, reason, out_of_memory=False)
        self.on_change()


class _QueueSearcher(Searcher):  # type: ignore[misc]
    """Tune's source of trials."""

    def __init__(self, bridge: _TuneBridge) -> None:
        super().__init__()
        self._bridge = bridge

    def suggest(self, trial_id: str) -> Any:
        """The next configuration, None to wait, or the mark of the end."""
        config: Any = Searcher.FINISHED
        with self._bridge.capture_errors():
            config = self._bridge.next_config()
            self._bridge.on_change()
        return config

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: ``_QueueCallback`` is called, too."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: MLflow has it."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing."""


def _read_error(file: str | None) -> str:
    """What Tune wrote about the error of a trial, or ``NO_REPORT``. The file that its own ``get_error()`` reads comes later."""
    with contextlib.suppress(OSError):
        return (Path(file).read_text(errors="replace").strip() if file else "") or NO_REPORT
    return NO_REPORT


class _QueueScheduler(FIFOScheduler):  # type: ignore[misc]
    """Decides for Tune whether a trial continues."""

    def __init__(self, bridge: _TuneBridge) -> None:
        super().__init__()
        self._bridge = bridge

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Stop or continue."""
        stop = True
        with self._bridge.capture_errors():
            stop = self._bridge.on_report(trial, result)
            self._bridge.on_change()
        return str(TrialScheduler.STOP if stop else TrialScheduler.CONTINUE)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Retry it, or mark it as failed."""
        with self._bridge.capture_errors():
            self._bridge.on_process_end(trial, _read_error(trial.error_file))

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """The next in Tune's order. Tune marks a process that could not be reused as an error without calling the scheduler."""
        for trial in tune_controller.get_live_trials():
            if trial.status == trial.ERROR and trial.trial_id not in self._bridge.reported_final:
                self.on_trial_error(tune_controller, trial)
        return super().choose_trial_to_run(tune_controller)


class _QueueCallback(Callback):  # type: ignore[misc]
    """Called by Tune for processes that have started or ended."""

    def __init__(self, bridge: _TuneBridge) -> None:
        self._bridge = bridge

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The trial's time starts."""
        self._bridge.manager.on_start(trial.config["spec"].number)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial that ended without a final report, which none should, must not hold up the search."""
        with self._bridge.capture_errors():
            self._bridge.on_process_end(trial, NO_REPORT)
