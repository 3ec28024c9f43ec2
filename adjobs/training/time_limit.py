"""How long a training has taken, and when its stage must end."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.distributed as dist


class TimeLimit:
    """Shares the time of a training equally among the stages that train; what one of them leaves goes to the later ones.

    Args:
        max_seconds: of the whole training; None: no limit.
        device: of this worker, from which its backend sends.
        clock: in seconds.
    """

    def __init__(self, max_seconds: float | None, device: torch.device, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_seconds, self._device, self._clock = max_seconds, device, clock
        self._started_at, self._deadline, self._reserved = clock(), 0.0, 0.0

    @property
    def seconds(self) -> float:
        """That the training has taken so far, before a resume included."""
        return self._clock() - self._started_at

    def resume(self, seconds: float) -> None:
        """Count the seconds that the training took before it was resumed."""
        self._started_at = self._clock() - seconds

    def reserve(self, seconds: float) -> None:
        """Keep the time of a validation, which follows the last step of a stage."""
        self._reserved = seconds

    def start_stage(self, n_stages: int) -> None:
        """A stage that trains starts, or continues; ``n_stages`` is the number of those that are left, this one included."""
        seconds = self.seconds
        self._deadline = seconds + ((self._max_seconds or 0.0) - seconds) / n_stages

    def is_reached(self) -> bool:
        """Whether the running stage has taken its share, but for what is reserved.

        By the clock of the first worker; all workers call this together.
        """
        if self._max_seconds is None:
            return False
        is_reached = self.seconds + self._reserved >= self._deadline
        if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
            return is_reached
        flag = torch.tensor(int(is_reached), device=self._device)
        dist.broadcast(flag, 0)
        return bool(flag.item())
