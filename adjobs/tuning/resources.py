"""What a trial gets of the cluster, so that as many run at once as fit."""

from __future__ import annotations

import math
from typing import NamedTuple

from adjobs.training.resources import WorkerResources

MEMORY_MARGIN = 1.15  # above the measured peak, because allocators do not do exactly the same twice
MEMORY_STEP_MIB = 64


class TrialResources(NamedTuple):
    """What the cluster has for each trial.

    Attributes:
        worker: processors and GPUs of each worker; in one process a whole GPU until its memory is known, then a share.
        max_concurrent: trials that fit at once.
        workers: of a trial.
        gpu_mib: memory of a GPU.
        context_mib: GPU memory that a process takes beside its tensors.
        node_mib: memory of the largest node.
    """

    worker: WorkerResources
    max_concurrent: int
    workers: int
    gpu_mib: float
    context_mib: float
    node_mib: float

    @property
    def exclusive_device(self) -> bool:
        """Whether each trial has its GPU or its workers for itself, so that several may run before the memory of one is known."""
        return self.workers > 1 or self.worker.gpus > 0

    def for_trial(self, peak_memory_mib: float | None, *, exclusive: bool) -> dict[str, float]:
        """Ray's resources for the process of a trial.

        Args:
            peak_memory_mib: the largest memory of a trial so far; None: unknown.
            exclusive: the trial needs the machines to itself.
        """
        if self.workers > 1:
            return {"memory": 2**20}  # it waits for its workers, and any processor that it had would be missing there
        if peak_memory_mib is None or exclusive:
            return {"CPU": self.worker.cpus, **({"GPU": self.worker.gpus} if self.worker.gpus else {})}
        if self.worker.gpus:
            share = math.ceil(100 * MEMORY_MARGIN * (peak_memory_mib + self.context_mib) / self.gpu_mib) / 100
            return {"CPU": self.worker.cpus, "GPU": share if share < 1 else self.worker.gpus}
        memory_mib = min(self.node_mib, MEMORY_STEP_MIB * math.ceil(MEMORY_MARGIN * peak_memory_mib / MEMORY_STEP_MIB))
        return {"CPU": self.worker.cpus, "memory": memory_mib * 2**20}
