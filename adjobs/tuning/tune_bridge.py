"""Ray Tune as the hands of a search: it starts trials where there is room, and stops those that are to stop."""

from __future__ import annotations

import contextlib
import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ray import tune
from ray.tune.callback import Callback
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from adjobs.config.job import TrainSection
from adjobs.errors import AdjobsError, ClusterError, one_line
from adjobs.storage import open_store
from adjobs.storage.arrow import arrow_filesystem
from adjobs.training.backends import ray as ray_backend
from adjobs.training.backends.ray import WorkerResources
from adjobs.tuning.trial import Order, run
from adjobs.tuning.trial_manager import SLACK, Queue, Trial

# Errors of ours that a trial may end with and go well another time: a service was away.
PASSING = ("errors.TrackingError", "errors.StorageError")
MOST_CONTEXT = 2048  # MiB; what is above it belongs to somebody else
SILENT = "it ended without a word"
MOST = 10_000_000  # Tune wants a number of trials; the queue ends the search


class Room(NamedTuple):
    """What a trial gets.

    Attributes:
        wanted: processors and GPUs of each worker; in one process a whole GPU until its memory is known, then a part.
        most: trials that fit at once.
        workers: of a trial.
        gpu_mib: what a GPU holds.
        context_mib: what a process takes there beside its tensors.
        node_mib: what the largest node holds.
    """

    wanted: WorkerResources
    most: int
    workers: int
    gpu_mib: float
    context_mib: float
    node_mib: float

    @property
    def crowded(self) -> bool:
        """Whether several trials may run before one was measured: each has its GPU or its workers for itself."""
        return self.workers > 1 or self.wanted.gpus > 0

    def share(self, peak_mib: float | None, *, alone: bool) -> dict[str, float]:
        """Ray's resources for a trial's own process, so that as many run on a node as its memory holds."""
        if self.workers > 1:
            return {"memory": 2**20}  # it waits for its workers: any part of a processor would be taken from them
        if peak_mib is None or alone:
            return {"CPU": self.wanted.cpus, **({"GPU": self.wanted.gpus} if self.wanted.gpus else {})}
        if self.wanted.gpus:
            part = math.ceil(100 * SLACK * (peak_mib + self.context_mib) / self.gpu_mib) / 100
            return {"CPU": self.wanted.cpus, "GPU": part if part < 1 else self.wanted.gpus}
        memory = min(self.node_mib, 64 * math.ceil(SLACK * peak_mib / 64))
        return {"CPU": self.wanted.cpus, "memory": memory * 2**20}


def room(train: TrainSection) -> Room:
    """What the cluster has for trials of a job.

    Raises:
        ClusterError: not even one fits.
    """
    import ray

    if train.workers == 1 and train.cpus_per_worker == "auto":
        train = train.model_copy(update={"cpus_per_worker": 1})  # more trials at once do more than more processors for each
    wanted = ray_backend.resolve_resources(train)
    one = train.workers == 1
    # Parts of a GPU: as many trials as processors.
    most = ray_backend.worker_capacity(wanted._replace(gpus=0.0) if one else wanted) // train.workers
    largest = max(node["Resources"].get("memory", 0) for node in ray.nodes() if node["Alive"])
    gpu, context = _gpu_memory() if one and wanted.gpus else (0.0, 0.0)
    return Room(wanted, most, train.workers, gpu, context, largest / 2**20)


def _gpu_memory() -> tuple[float, float]:
    """Memory of a GPU of the cluster, and what a process takes there beside its tensors, in MiB; not others' use of it."""
    import ray

    def ask() -> tuple[float, float]:
        import torch

        one = torch.zeros(1, 8, 8, 8, device="cuda")
        torch.conv2d(one, one).flatten() @ one.flatten()[:1]  # loads what convolutions and products need
        torch.cuda.synchronize()
        free, total = torch.cuda.mem_get_info()
        return total / 2**20, min((total - free - torch.cuda.memory_reserved()) / 2**20, MOST_CONTEXT)

    found: tuple[float, float] = ray.get(ray.remote(num_gpus=1, num_cpus=0)(ask).remote())
    return found


def execute(queue: Queue, order_of: Callable[[Trial], Order], where: Room, storage: str, heard: Callable[[], None]) -> None:
    """Run the trials of a queue until it is over.

    Args:
        queue: says which trial starts next, and is told what becomes of it.
        order_of: what the process of a trial is told.
        where: what a trial gets.
        storage: folder or ``s3://`` URI that all nodes reach, for Tune's own files; removed afterwards.
        heard: called after every change.

    Raises:
        AdjobsError: what the queue or MLflow raises.
    """
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    parent, _, name = storage.rpartition("/")
    path, filesystem = arrow_filesystem(parent)
    hands = _Hands(queue, order_of, where, heard)
    trainable = tune.with_resources(run, lambda config: tune.PlacementGroupFactory([config["share"]]))
    with _swept(storage):
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=_Asks(hands), scheduler=_Stops(hands), num_samples=MOST, reuse_actors=where.workers == 1
            ),
            run_config=tune.RunConfig(
                name=name,
                storage_path=path,
                storage_filesystem=filesystem,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=0),
                callbacks=[_Hears(hands)],
            ),
        )
        tuner.fit()
    if hands.error is not None:
        raise hands.error
    if not queue.over:
        raise ClusterError("the search ended before its trials did; go on with 'adjobs tune --resume'")


@contextlib.contextmanager
def _swept(storage: str) -> Iterator[None]:
    try:
        yield
    finally:
        parent, _, name = storage.rpartition("/")
        open_store(parent).delete(name)


class _Hands:
    """What the three ends that Tune asks for share. An error of ours ends the search, and is raised when Tune has cleared up."""

    def __init__(self, queue: Queue, order_of: Callable[[Trial], Order], where: Room, heard: Callable[[], None]) -> None:
        self.queue, self.order_of, self.where, self.heard = queue, order_of, where, heard
        self.error: AdjobsError | None = None
        self.spoken: set[str] = set()  # Tune's ids of those whose last word was heard: their number may run again by now

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its searcher to go on by itself, which nobody asks it to."""
        return {}

    @contextlib.contextmanager
    def minding(self) -> Iterator[None]:
        try:
            yield
        except AdjobsError as error:
            self.error = self.error or error

    def start(self) -> dict[str, Any] | str | None:
        """The configuration of the trial to start now."""
        if self.error is not None:
            return str(Searcher.FINISHED)
        trial = self.queue.next()
        if trial is None:
            return str(Searcher.FINISHED) if self.queue.over else None
        share = self.where.share(self.queue.peak_mib, alone=trial.alone)
        return {"order": self.order_of(trial), "share": share}

    def reported(self, trial: Any, result: Mapping[str, Any]) -> bool:
        """Take a report; returns whether the trial is to stop."""
        number = trial.config["order"].number
        if self.error is not None:
            return True
        if not {"memory", "refused", "values"}.isdisjoint(result):
            self.spoken.add(trial.trial_id)
        if "memory" in result:
            self.queue.died(number, result["memory"], memory=True)
        elif "refused" in result:
            self.queue.refused(number, result["refused"])
        elif "values" in result:
            self.queue.finished(number, json.loads(result["values"]))
        else:
            value = result.get(f"val/{self.queue.study.goals[0].metric}")
            if value is not None:
                return self.queue.reported(number, int(result["round"]), float(value))
        return False

    def ended(self, trial: Any, text: str) -> None:
        """Take the end of a process that said nothing of it, or what Tune wrote of an error."""
        if trial.trial_id in self.spoken:
            return
        self.spoken.add(trial.trial_id)
        number, how = trial.config["order"].number, end_of(text)
        reason = one_line(RuntimeError(text.strip().splitlines()[-1]))
        if how == "program":
            self.queue.refused(number, reason)
        else:
            self.queue.died(number, reason, memory=how == "memory")
        self.heard()


class _Asks(Searcher):  # type: ignore[misc]
    """Tune's question for the next trial."""

    def __init__(self, hands: _Hands) -> None:
        super().__init__()
        self._hands = hands

    def suggest(self, trial_id: str) -> Any:
        """The next configuration, None to wait, or the word for the end."""
        found: Any = Searcher.FINISHED
        with self._hands.minding():
            found = self._hands.start()
            self._hands.heard()
        return found

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Told by ``_Hears``."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: MLflow holds it."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing."""


class _Stops(FIFOScheduler):  # type: ignore[misc]
    """Tune's question whether a trial goes on."""

    def __init__(self, hands: _Hands) -> None:
        super().__init__()
        self._hands = hands

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Stop or go on."""
        stop = True
        with self._hands.minding():
            stop = self._hands.reported(trial, result)
            self._hands.heard()
        return str(TrialScheduler.STOP if stop else TrialScheduler.CONTINUE)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Try it again, or mark it."""
        # What Tune's own get_error() reads comes to its place later.
        text = Path(trial.error_file).read_text() if trial.error_file else SILENT
        with self._hands.minding():
            self._hands.ended(trial, text)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """The next, by Tune's order. A process that could not be used again is marked without a word to anybody."""
        for trial in tune_controller.get_live_trials():
            if trial.status == trial.ERROR and trial.trial_id not in self._hands.spoken:
                self.on_trial_error(tune_controller, trial)
        return super().choose_trial_to_run(tune_controller)


class _Hears(Callback):  # type: ignore[misc]
    """Tune's word of processes that are there, and of those that ended."""

    def __init__(self, hands: _Hands) -> None:
        self._hands = hands

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Its time begins."""
        self._hands.queue.started(trial.config["order"].number)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial that said nothing at its end, which none should, must not hold up the search."""
        with self._hands.minding():
            self._hands.ended(trial, SILENT)


def end_of(text: str) -> Literal["program", "memory", "process"]:
    """What an error tells of in Tune's words: an exception, which would come again, no memory, or a process or service gone."""
    if "running low on memory" in text:  # Ray's own watch, which kills before the system does; then it lists what runs
        return "memory"
    traceback = "ray::" in text  # Ray writes the title of the process before it
    if traceback and not any(name in text.strip().splitlines()[-1] for name in PASSING):
        return "program"
    # The system may have killed it for memory: Ray names that among the causes of any such end.
    return "process"
