"""What a search is after: measures of the validation part, and what a detector costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from adjobs import methods
from adjobs.config.job import JobConfig
from adjobs.errors import JobError, choices

COSTS = {"ms_per_image": "ms for each picture", "train_seconds": "seconds of training", "peak_memory_mib": "MiB at most"}
EVERY_ROUND = ("image_auroc", "image_ap", "image_f1max")
PIXELS = ("pixel_auroc", "pixel_ap", "au_pro")
# What dpae and others measure of their further scores, such as image_auroc_rlx.
FURTHER = "image_auroc_"


@dataclass(frozen=True)
class Objective:
    """A number of each trial, and which way is better."""

    metric: str
    direction: Literal["max", "min"]

    @property
    def every_round(self) -> bool:
        """Whether it is known after each round, so that a trial can be stopped early by it."""
        return self.metric not in COSTS and self.metric not in PIXELS

    def better(self, one: float, other: float) -> bool:
        """Whether one value is better than another."""
        return one > other if self.direction == "max" else one < other

    def __str__(self) -> str:
        return f"{self.metric}:{self.direction}"


def objectives(told: tuple[str, ...], job: JobConfig) -> tuple[Objective, ...]:
    """Objectives from words such as ``image_auroc`` or ``ms_per_image:min``; none: the method's own selection metric.

    Raises:
        JobError: an unknown metric or direction, or one twice.
    """
    spec = methods.spec(job.method)
    own = () if spec.native_threshold is None else (f"image_macro_f1_at_{spec.native_threshold:g}",)
    maps = PIXELS if methods.gives_map(job.method, job.params) else ()
    known = (*EVERY_ROUND, *own, *maps, *COSTS)
    found: list[Objective] = []
    for word in told or (spec.selection.metric,):
        metric, colon, direction = word.partition(":")
        usual = "min" if metric in COSTS else "max"
        if metric not in known and not metric.startswith(FURTHER):
            raise JobError(f"--metric {word}: a {job.method} job has no such metric; {choices(metric, known)}")
        if colon and direction not in ("max", "min"):
            raise JobError(f"--metric {word}: got direction '{direction}'; give {metric}:max or {metric}:min")
        found.append(Objective(metric, direction or usual))  # type: ignore[arg-type]
    if len({one.metric for one in found}) < len(found):
        raise JobError(f"--metric: got {', '.join(told)}; give each metric once")
    return tuple(found)


def pareto(values: list[tuple[float, ...]], goals: tuple[Objective, ...]) -> list[int]:
    """Rows that no other row beats: not worse in any objective, and better in one."""

    def beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
        pairs = list(zip(goals, one, other, strict=True))
        return not any(goal.better(b, a) for goal, a, b in pairs) and any(goal.better(a, b) for goal, a, b in pairs)

    return [i for i, mine in enumerate(values) if not any(beats(other, mine) for other in values)]
