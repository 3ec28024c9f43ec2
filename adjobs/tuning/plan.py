"""What a search will do, decided and looked at before anything starts."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from adjobs import methods
from adjobs.config.job import JobConfig
from adjobs.config.settings import Settings
from adjobs.errors import JobError
from adjobs.jobs import run
from adjobs.jobs.prepare import Data
from adjobs.tuning.objective import COSTS, Objective, objectives
from adjobs.tuning.space import Space, overlaps
from adjobs.tuning.study import Sampler, Stopper

DEFAULT_TRIALS = 30


@dataclass(frozen=True)
class Options:
    """How to search; None where the search decides.

    Attributes:
        metrics: objectives such as ``image_auroc:max``; the first chooses.
        sampler: what suggests points.
        stopper: what stops trials early; None: ASHA where the one objective is known after every round.
        grace: validated rounds that every trial gets.
        seed: of what the sampler draws.
        trials: in all.
        concurrent: at once.
    """

    metrics: tuple[str, ...] = ()
    sampler: Sampler = "tpe"
    stopper: Stopper | None = None
    grace: int = 3
    seed: int = 0
    trials: int | None = None
    concurrent: int | None = None


def resolved(options: Options, job: JobConfig, space: Space) -> tuple[Options, tuple[Objective, ...]]:
    """Options with all that the search decides, and the objectives.

    Raises:
        JobError: they do not fit together.
    """
    goals = objectives(options.metrics, job)
    late = [goal.metric for goal in goals if not goal.every_round]
    if options.stopper in ("asha", "median") and (late or len(goals) > 1):
        why = f"{', '.join(late)} is known at the end only" if late else "with several objectives nothing is below its peers"
        raise JobError(f"--stopper {options.stopper}: {why}; give --stopper none")
    stopper: Stopper = options.stopper or ("none" if late or len(goals) > 1 else "asha")
    trials = options.trials
    if options.sampler == "grid":
        size = len(space.grid(job))
        if trials is not None and trials < size:
            raise JobError(f"--trials: got {trials}, the grid has {size} points; give that many, or fewer values in the space")
        trials = size
    return replace(options, stopper=stopper, trials=trials or DEFAULT_TRIALS), goals


def look(space: Space, job: JobConfig, goals: tuple[Objective, ...], settings: Settings) -> dict[str, Data]:
    """All divisions of the data that the space leads to, by section; the job's own first.

    Raises:
        JobError: one chooses by pictures that another tests on; nothing to measure on in a validation part; something varies that
            must be as in the run that the job begins with.
    """
    _check_start(space, job)
    found: dict[str, Data] = {}
    names: dict[str, str] = {}
    for point in [{}, *space.sections(job)]:
        one = space.job_at(point, job)
        if section(one) not in found:
            found[section(one)] = run.prepare(one, settings).data
            names[section(one)] = ", ".join(f"{key} {value}" for key, value in point.items()) or "the job as it is"
    parts = [(names[key], frozenset((*d.split.train, *d.split.val)), frozenset(d.split.test)) for key, d in found.items()]
    leak = overlaps(parts)
    if leak:
        raise JobError(f"{space.source}: {leak}, so that test pictures would choose; leave one of them out")
    if any(goal.metric not in COSTS for goal in goals):
        for key, data in found.items():
            labels = {sample.id: sample.label for sample in data.samples.samples}
            if {labels[name] for name in data.split.val} != {"normal", "anomalous"}:
                raise JobError(f"{names[key]}: the validation part lacks good or anomalous pictures, nothing can be chosen by it")
    return found


def _check_start(space: Space, job: JobConfig) -> None:
    """Refuse to vary what must be as in the run that the job begins with."""
    begin = methods.spec(job.method).warm_start
    if begin is None or job.params[begin.param] is None:
        return
    fixed = {"data.image_size", *(f"params.{name}" for name in begin.must_match)}
    wrong = [axis.key for axis in space.axes if axis.key in fixed]
    if wrong:
        raise JobError(
            f"{space.source}: {', '.join(wrong)} must be as in params.{begin.param} '{job.params[begin.param]}'; leave them out"
        )


def section(job: JobConfig) -> str:
    """What of a job decides on its data; not the size."""
    return json.dumps(job.data.model_dump(mode="json", exclude={"image_size", "labels", "block_size"}), sort_keys=True)
