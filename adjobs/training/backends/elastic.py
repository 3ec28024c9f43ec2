"""A training whose number of workers follows what the cluster has: fewer after a loss, more when there is room again.

Ray Train can do that itself, but takes any number up to the largest, by which a batch may not be divisible, and throws away what
was trained since the last checkpoint when it grows. Here each group of workers has a fixed number, chosen when it starts, and a
larger one takes over at a checkpoint.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from adjobs.errors import ClusterError
from adjobs.training.backends.ray_worker import Regrouping, group_state
from adjobs.training.progress import GroupState

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
PROBE_SECONDS = 5.0  # for room that is there Ray needs milliseconds, or a second after other workers have left it
MAX_WAIT_SECONDS = 1800.0  # for the smallest number of workers; by then a lost machine is back, or will not be soon

Bundle = Mapping[str, float]
"""What one worker asks for, by Ray's names of resources."""


def fit_elastic(counts: Sequence[int], max_retries: int, bundle: Bundle, fit: Callable[[int], Any], progress: Any) -> Any:
    """Train with as many workers as there is room for, and choose again after a loss and when there is room for more.

    Args:
        counts: the numbers of workers that are allowed, ascending.
        max_retries: how often workers may be lost.
        bundle: of each worker.
        fit: trains with a number of workers, from the last checkpoint; returns what rank 0 returns.
        progress: the actor that tells the workers that there is room for more.

    Raises:
        TrainingFailedError: of Ray Train: workers were lost too often.
        ClusterError: there is no room for the smallest number.
    """
    import ray.train

    losses = 0
    while True:
        workers = wait_for_room(counts, bundle)
        log.info("training with %d of at most %d workers", workers, counts[-1])
        ray.get(progress.set_group.remote(GroupState.STARTING))
        try:
            with _growing(next((count - workers for count in counts if count > workers), 0), bundle, progress):
                outcome = fit(workers)
        except ray.train.TrainingFailedError as error:
            losses += not isinstance(error, ray.train.PreemptionError)  # a machine that was announced to go is no failure
            if losses > max_retries:
                raise
            log.warning("a worker was lost or failed; training continues from the last checkpoint")
            continue
        if not isinstance(outcome, Regrouping):
            return outcome


def wait_for_room(counts: Sequence[int], bundle: Bundle) -> int:
    """The largest of some numbers of workers that the cluster has room for now; waits for the smallest.

    Raises:
        ClusterError: there was none for half an hour.
    """
    deadline = time.monotonic() + MAX_WAIT_SECONDS
    while time.monotonic() < deadline:
        for count in reversed(counts):
            with _placement_group(count, bundle) as group:
                if group.wait(PROBE_SECONDS):
                    return count
    request = ", ".join(f"{amount:g} {name}" for name, amount in bundle.items())
    raise ClusterError(
        f"train.workers: no room for {counts[0]} workers with {request} each for {MAX_WAIT_SECONDS / 60:g} minutes; "
        "add nodes or wait for other jobs to end, then resume the run"
    )


@contextmanager
def _growing(more: int, bundle: Bundle, progress: Any) -> Iterator[None]:
    """Reserve room for more workers while a block trains, and tell the workers when there is; 0: want no more."""
    if not more:
        yield
        return
    done = threading.Event()
    thread = threading.Thread(target=_reserve, args=(more, bundle, progress, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _reserve(more: int, bundle: Bundle, progress: Any, done: threading.Event) -> None:
    """Hold room for more workers until ``done``, but ask for it only once the others have theirs: it would be taken from them."""
    while not done.wait(POLL_SECONDS):
        if group_state(progress) == GroupState.TRAINING:
            break
    else:
        return
    with _placement_group(more, bundle) as group:
        while not done.is_set():
            if group.wait(POLL_SECONDS):
                progress.set_group.remote(GroupState.MAY_GROW)
                done.wait()


@contextmanager
def _placement_group(count: int, bundle: Bundle) -> Iterator[Any]:
    """A request for room for some workers, as Ray Train makes it, withdrawn afterwards."""
    from ray.util.placement_group import placement_group, remove_placement_group

    group = placement_group([dict(bundle)] * count)
    try:
        yield group
    finally:
        remove_placement_group(group)
