"""The model in force: an alias of the registry is followed, and what it stands for is changed without refusing anybody."""

from __future__ import annotations

import logging
import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass

from adjobs.errors import AdjobsError, one_line
from adjobs.serving.metrics import ServingMetrics
from adjobs.serving.models import ModelSource, ServedModel

log = logging.getLogger(__name__)

FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 10.0, 300.0
"""After which a version that could not be loaded is tried again; doubled each time."""


NICE = 10
"""Of the thread that loads models, which takes seconds of all processors: about a tenth of what a thread that predicts gets."""


@dataclass
class FollowState:
    """What became of the latest attempts.

    Attributes:
        checked_at: when the registry last said what the alias stands for, in seconds since the epoch; None: never.
        error: why that is not in force, in one line; None if it is.
    """

    checked_at: float | None = None
    error: str | None = None


class ModelInForce:
    """The model by which new requests are answered.

    A request takes it once, and keeps it to its end: an old model is freed with the last request that began with it.

    Args:
        source: where it comes from.
        metrics: that count what happens.
        interval: seconds between two questions to the registry.
    """

    def __init__(self, source: ModelSource, metrics: ServingMetrics, interval: float = 10.0) -> None:
        self.source, self.state = source, FollowState()
        self.current: ServedModel | None = None
        self._metrics, self._interval = metrics, interval
        self._stop = threading.Event()
        self._failed, self._retry_at, self._retry_seconds = "", 0.0, FIRST_RETRY_SECONDS

    def load(self) -> None:
        """Load the first model.

        Raises:
            AdjobsError: it cannot be loaded.
        """
        self._install(self.source.load(self.source.resolve()))

    def start(self) -> None:
        """Follow the alias, if it is one, in a thread."""
        if self.source.alias is not None:
            threading.Thread(target=self._run, daemon=True, name="follow").start()

    def close(self) -> None:
        """Follow no longer."""
        self._stop.set()

    def check(self) -> None:
        """Ask the registry once, and put what it names in force."""
        try:
            pinned = self.source.resolve()
        except Exception as error:  # of MLflow, its database or its network
            self._metrics.follow_errors.inc()
            self._report("the registry does not say what the alias stands for", error)
            return
        self.state.checked_at = time.time()
        self._metrics.followed_at.set(self.state.checked_at)
        if self.current is not None and pinned == self.current.pinned:
            self.state.error, self._failed = None, ""
        elif pinned != self._failed or time.monotonic() >= self._retry_at:
            self._replace(pinned)

    def _replace(self, pinned: str) -> None:
        try:
            model = self.source.load(pinned)
        except Exception as error:  # whatever is wrong with it: the old one stays in force
            self._metrics.loads.labels("failed").inc()
            doubled = min(2 * self._retry_seconds, LAST_RETRY_SECONDS)
            self._retry_seconds = doubled if pinned == self._failed else FIRST_RETRY_SECONDS
            self._failed, self._retry_at = pinned, time.monotonic() + self._retry_seconds
            self._report(f"{pinned} cannot be loaded", error)
            return
        before = self.current
        self._install(model)
        log.info("%s is in force%s", model.info, "" if before is None else f", in place of {before.info}")

    def _install(self, model: ServedModel) -> None:
        self.current = model
        self.state.error, self._failed, self.state.checked_at = None, "", time.time()
        self._metrics.loads.labels("ok").inc()
        self._metrics.followed_at.set(self.state.checked_at)
        self._metrics.set_model(model.info)

    def _report(self, problem: str, error: Exception) -> None:
        """Once, not every few seconds; to clients without what the error says of this machine."""
        if self.state.error != problem:
            cause = str(error) if isinstance(error, AdjobsError) else one_line(error)
            log.warning("%s, so %s stays in force: %s", problem, self.current and self.current.info, cause)
        self.state.error = problem

    def _run(self) -> None:
        _yield_to_others()
        while not self._stop.wait(self._interval):
            self.check()


def _yield_to_others() -> None:
    """Lower the priority of this thread, where the system has one for each. Runtimes compute with threads that they have already.

    Those of OpenVINO were started with the first model; PyTorch starts some for this thread, which compute for no other.
    """
    with suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
