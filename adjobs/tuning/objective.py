"""What a search optimises: metrics of the validation split, and what a detector costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from adjobs import methods
from adjobs.config.job import JobConfig
from adjobs.errors import JobError, choices, shown

COSTS = ("ms_per_image", "train_seconds", "peak_memory_mib")
IMAGE_METRICS = ("image_auroc", "image_ap", "image_f1max")
PIXEL_METRICS = ("pixel_auroc", "pixel_ap", "au_pro")
EXTRA_SCORE_PREFIX = "image_auroc_"  # metrics of a method's extra scores, such as image_auroc_rlx

Direction = Literal["max", "min"]


@dataclass(frozen=True)
class Objective:
    """A number of each trial, and which way is better."""

    metric: str
    direction: Direction

    @property
    def is_cost(self) -> bool:
        """Whether it is measured beside the scores, and not on the test split."""
        return self.metric in COSTS

    @property
    def is_intermediate(self) -> bool:
        """Whether it is known after every validation, so that trials can be pruned by it."""
        return not self.is_cost and self.metric not in PIXEL_METRICS

    def is_better(self, value: float, other: float) -> bool:
        """Whether one value is better than another."""
        return value > other if self.direction == "max" else value < other

    def __str__(self) -> str:
        return f"{self.metric}:{self.direction}"


def parse_objectives(requested: Sequence[str], job: JobConfig) -> tuple[Objective, ...]:
    """Parse objectives such as ``image_auroc`` or ``ms_per_image:min``.

    Args:
        requested: the objectives; none stands for the method's own selection metric.
        job: the resolved job, whose method and parameters decide which metrics there are.

    Raises:
        JobError: an unknown metric or direction, or the same metric twice.
    """
    spec = methods.spec(job.method)
    native = () if spec.native_threshold is None else (f"image_macro_f1_at_{spec.native_threshold:g}",)
    pixel = PIXEL_METRICS if methods.gives_map(job.method, job.params) else ()
    known = (*IMAGE_METRICS, *native, *pixel, *COSTS)
    objectives = tuple(_parse_objective(text, job.method, known) for text in requested or (spec.selection.metric,))
    if len({objective.metric for objective in objectives}) < len(objectives):
        raise JobError(f"--metric: got {', '.join(requested)}; give each metric once")
    return objectives


def _parse_objective(text: str, method: str, known: Sequence[str]) -> Objective:
    metric, colon, direction = text.partition(":")
    if metric not in known and not metric.startswith(EXTRA_SCORE_PREFIX):
        raise JobError(f"--metric {shown(text)}: unknown metric of a {method} job; {choices(metric, known)}")
    if direction == "max":
        return Objective(metric, "max")
    if direction == "min" or (not colon and metric in COSTS):
        return Objective(metric, "min")
    if colon:
        raise JobError(f"--metric {shown(text)}: got direction {shown(direction)}; give {metric}:max or {metric}:min")
    return Objective(metric, "max")


def pareto_front(values: Sequence[tuple[float, ...]], objectives: Sequence[Objective]) -> list[int]:
    """Indices of the value tuples that no other one dominates: at least as good in all objectives, and better in one."""

    def dominates(candidate: tuple[float, ...], other: tuple[float, ...]) -> bool:
        pairs = list(zip(objectives, candidate, other, strict=True))
        return not any(objective.is_better(b, a) for objective, a, b in pairs) and any(
            objective.is_better(a, b) for objective, a, b in pairs
        )

    return [i for i, candidate in enumerate(values) if not any(dominates(other, candidate) for other in values)]
