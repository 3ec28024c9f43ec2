"""Prediction on a Ray cluster, with Ray Data: a process for each worker holds the detector and predicts a few images per task.

Tasks of a process that is lost are done by another; results come in the order of the images. Images are read where they are
predicted: what is no ``s3://`` address must have the same path on every node.
"""

from __future__ import annotations

import inspect
import json
import logging
import re
import warnings
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from adjobs.errors import AdjobsError, ClusterError, one_line, shorten
from adjobs.inference.engine_contract import EngineName
from adjobs.inference.lines import describe_error, describe_prediction
from adjobs.inference.loading import load
from adjobs.inference.overlay import encode_overlay
from adjobs.inference.pipeline import ScoredFile, predict_ahead
from adjobs.inference.results import ResultFolder

MAX_ROWS = 64
"""Images of a task at most: a lost process costs no more, and between tasks its pipeline runs empty."""

_TASKS_PER_WORKER = 4  # at least, so that all end at about the same time
_BATCH = 4  # a task of whole batches of a processor has the scores of one long run
_TASK_RETRIES = 3  # an image that kills each process that reads it must not do so for ever
_RESTARTS = 30


class PredictTask(NamedTuple):
    """What a worker needs to know.

    Attributes:
        files: of the detector's folder, by name.
        engine: what computes.
        overlays: whether the anomaly maps are drawn.
    """

    files: dict[str, bytes]
    engine: EngineName
    overlays: bool


class WorkerPlan(NamedTuple):
    """Workers of a cluster, and what each of them gets."""

    workers: int
    cpus: int
    gpus: int


class Predictor:
    """A worker, in a process of its own.

    Args:
        task: reference to a :class:`PredictTask`.
        threads: cores to use.
        share: images that it will predict, about.
    """

    def __init__(self, task: Any, threads: int, share: int) -> None:
        import ray

        files, engine, self._overlays = ray.get(task)
        with TemporaryDirectory(prefix="adjobs-") as folder:
            for name, content in files.items():
                Path(folder, name).write_bytes(content)
            self._detector = load(Path(folder), "auto", engine)
        self._detector.expect(share)
        self._threads = threads
        self._stack = ExitStack()  # for as long as the process lives
        self._stack.enter_context(self._detector.throughput_mode())

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """Lines as JSON, and overlays as PNG, empty where there is none, for columns ``index`` and ``name``."""
        names = [str(name) for name in batch["name"]]

        def finish(index: int, outcome: ScoredFile | Exception) -> tuple[dict[str, Any], bytes]:
            if not isinstance(outcome, Exception):
                try:
                    line, overlay = describe_prediction(self._detector, outcome, draw=self._overlays)
                    return line, b"" if overlay is None else encode_overlay(overlay)
                except Exception as error:  # too little memory
                    outcome = error
            return describe_error(names[index], outcome), b""

        rows = list(predict_ahead(self._detector, names, finish, self._threads))
        return {
            "index": batch["index"],
            "line": [json.dumps(line, allow_nan=False) for line, _ in rows],
            "overlay": [overlay for _, overlay in rows],
        }


def plan_cluster(workers: int | None) -> WorkerPlan:
    """What the workers get of the cluster that this process is connected to.

    Raises:
        ClusterError: it never has room for them.
    """
    import ray

    return plan_workers(workers, [node["Resources"] for node in ray.nodes() if node["Alive"]])


def plan_workers(workers: int | None, nodes: Sequence[Mapping[str, float]]) -> WorkerPlan:
    """Share the nodes among workers.

    Args:
        workers: number of them; None is one for each GPU, or for each node where there are none.
        nodes: resources of each, with ``CPU`` and ``GPU``.

    Raises:
        ClusterError: there are fewer GPUs, or cores, than workers.
    """
    cpus = [int(node.get("CPU", 0)) for node in nodes]
    gpus = [int(node.get("GPU", 0)) for node in nodes]
    if any(gpus):
        count = workers or sum(gpus)
        per_gpu = min(cpu // gpu for cpu, gpu in zip(cpus, gpus, strict=True) if gpu)
        if count > sum(gpus) or per_gpu < 1:
            raise ClusterError(
                f"workers: got {count}; each needs a GPU and a core, and the cluster has {sum(gpus)} GPUs; give fewer"
            )
        return WorkerPlan(count, per_gpu, 1)
    count = workers or sum(cpu > 0 for cpu in cpus)
    for size in range(max(cpus, default=0), 0, -1):
        if 0 < count <= sum(cpu // size for cpu in cpus):
            return WorkerPlan(count, size, 0)
    raise ClusterError(f"workers: got {count}; each needs a core, and the cluster has {sum(cpus)}; give fewer, or add nodes")


def predict_on_cluster(
    results: ResultFolder, names: Sequence[str], task: PredictTask, plan: WorkerPlan
) -> Generator[dict[str, Any], None, None]:
    """Predict images into an open folder of results; yields their lines, in their order.

    Raises:
        ClusterError: Ray ends the work.
        AdjobsError: the workers cannot load the detector.
    """
    from ray.exceptions import RayError

    if not names:
        return
    with _ordered_and_silent():
        dataset = _dataset(names, task, plan)
        try:
            for batch in dataset.iter_batches(batch_size=None, prefetch_batches=0):
                for index, text, overlay in zip(batch["index"], batch["line"], batch["overlay"], strict=True):
                    yield _store(results, int(index), json.loads(text), bytes(overlay))
        except RayError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, AdjobsError):
                raise cause from error
            raise ClusterError(
                f"Ray: the prediction ended ({_last_error(error)}); see its log, and go on with the same command and --resume"
            ) from error


def _dataset(names: Sequence[str], task: PredictTask, plan: WorkerPlan) -> Any:
    import ray
    import ray.data
    from ray.util.annotations import RayDeprecationWarning

    rows, count = rows_per_task(len(names), plan.workers), len(names)
    items = [{"index": index, "name": name} for index, name in enumerate(names)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RayDeprecationWarning)  # of the limits of retries
        return ray.data.from_items(items, override_num_blocks=-(-count // rows)).map_batches(
            Predictor,
            fn_constructor_args=(ray.put(task), plan.cpus, -(-count // plan.workers)),
            batch_size=rows,
            compute=ray.data.ActorPoolStrategy(size=plan.workers),
            num_cpus=plan.cpus,
            num_gpus=plan.gpus,
            **_retry_limits(),
        )


def rows_per_task(images: int, workers: int) -> int:
    """Images of a task: whole batches, and enough tasks that all workers end at about the same time.

    >>> rows_per_task(10_000, 4), rows_per_task(100, 4), rows_per_task(1, 8)
    (64, 8, 4)
    """
    rows = -(-images // (workers * _TASKS_PER_WORKER))
    return min(MAX_ROWS, -(-rows // _BATCH) * _BATCH)


def _retry_limits() -> dict[str, int]:
    """Options of Ray Data's processes, as long as it takes them: 2.60 warns that 2.64 will not, and then retries for ever."""
    from ray.data import Dataset

    parameters = inspect.signature(Dataset.map_batches).parameters.values()
    is_taken = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters)
    return {"max_restarts": _RESTARTS, "max_task_retries": _TASK_RETRIES} if is_taken else {}


def _last_error(error: Exception) -> str:
    """What Ray says on one line; of a traceback of a worker only what was raised."""
    raised = [line for line in str(error).splitlines() if re.match(r"[\w.]*(Error|Exception): ", line)]
    return shorten(raised[-1], 300) if raised else one_line(error)


def _store(results: ResultFolder, index: int, line: dict[str, Any], overlay: bytes) -> dict[str, Any]:
    if overlay:
        try:
            line["overlay"] = results.write_overlay(results.overlay(index), overlay)
        except AdjobsError as error:  # of this image, as where it is written in this process
            line = describe_error(line["path"], error)
    results.append(line)
    return line


@contextmanager
def _ordered_and_silent() -> Iterator[None]:
    """Settings of Ray Data, which are the process's; they are set back at the end."""
    from ray.data import DataContext

    context, logger = DataContext.get_current(), logging.getLogger("ray.data")
    before = context.execution_options.preserve_order, context.enable_progress_bars, logger.level
    context.execution_options.preserve_order, context.enable_progress_bars = True, False
    logger.setLevel(logging.CRITICAL)  # it prints tracebacks of errors that are raised here
    try:
        yield
    finally:
        context.execution_options.preserve_order, context.enable_progress_bars = before[:2]
        logger.setLevel(before[2])
