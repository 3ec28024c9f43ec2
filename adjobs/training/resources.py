"""What each worker of a job gets of a cluster, and whether the cluster can ever give it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

from adjobs.config.job import TrainSection
from adjobs.errors import ClusterError

MAX_AUTO_CPUS = 8  # more cores than this hardly speed up one worker, and others want them

GROWTH_VARIABLE = "ADJOBS_CLUSTER_GROWTH"
"""In drivers of queued jobs: how far their cluster may grow."""

_GROWTH = re.compile(r"cpus=(\d+)(?:,gpus=(\d+))?,nodes=(\d+)")


class Growth(NamedTuple):
    """How far an autoscaling cluster may grow: the resources of its largest node, and its nodes in all, the head included."""

    largest: Mapping[str, float]
    max_nodes: int

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """From ``cpus=8,gpus=1,nodes=5``; None if it is anything else."""
        match = _GROWTH.fullmatch(text)
        return match and cls({"CPU": float(match[1]), "GPU": float(match[2] or 0)}, int(match[3]))

    def to_text(self) -> str:
        """As :meth:`parse` reads it."""
        return f"cpus={self.largest['CPU']:.0f},gpus={self.largest['GPU']:.0f},nodes={self.max_nodes}"

    def grown(self, nodes: Sequence[Mapping[str, float]]) -> list[Mapping[str, float]]:
        """The nodes that a cluster may come to have which has these now."""
        return [*nodes, *[self.largest] * (self.max_nodes - len(nodes))]


class WorkerResources(NamedTuple):
    """What one worker gets."""

    cpus: int
    gpus: float


def fit_resources(train: TrainSection, nodes: Sequence[Mapping[str, float]]) -> WorkerResources:
    """What each worker gets on a cluster whose nodes have these resources.

    Where the number of workers may change, processors are shared among the largest number, and the smallest must fit.

    Raises:
        ClusterError: it holds too few such workers.
    """
    gpus = train.gpus_per_worker
    if gpus == "auto":
        gpus = 1.0 if sum(int(node.get("GPU", 0)) for node in nodes) >= train.min_workers else 0.0
    cpus = train.cpus_per_worker
    if cpus == "auto":
        cores = [int(node.get("CPU", 0)) for node in nodes]
        largest, total = max(cores, default=0), sum(cores)
        cpus = max(1, min(MAX_AUTO_CPUS, largest, total // train.max_workers))
    resources = WorkerResources(int(cpus), float(gpus))
    capacity = sum(workers_on(node, resources) for node in nodes)
    if capacity < train.min_workers:
        sizes = ", ".join(f"{node.get('CPU', 0):g} CPU {node.get('GPU', 0):g} GPU" for node in nodes) or "none"
        raise ClusterError(
            f"train.workers: got {train.min_workers} workers with {resources.cpus} CPU and {resources.gpus:g} GPU each, the "
            f"cluster holds {capacity} (nodes: {sizes}); use fewer workers, request less for each, or add nodes"
        )
    return resources


def workers_on(node: Mapping[str, float], resources: WorkerResources) -> int:
    """How many workers of this size one node holds."""
    by_gpu = int(node.get("GPU", 0) / resources.gpus) if resources.gpus else 10**9
    return min(int(node.get("CPU", 0) // resources.cpus), by_gpu)
