"""What a search has found: ready for JSON, as pictures, and how far validation flatters it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from adjobs.evaluation.result import compute_split_metrics
from adjobs.reporting import figures
from adjobs.reporting.figures import Tried
from adjobs.tracking.client import connect
from adjobs.tracking.run import THRESHOLDS_FILE, RunWriter, read_text
from adjobs.tracking.search import ChildRun
from adjobs.tuning.objective import COSTS, Objective, pareto
from adjobs.tuning.trial_manager import Queue, Trial
from adjobs.types import ImageScores

SHOWN = 5  # trials that get pictures of their own: hundreds of pages full of them would be slow, and nobody looks at them


def document(queue: Queue) -> dict[str, Any]:
    """What became of every trial, ready for JSON. At least one must have finished."""
    goals, best = queue.study.goals, queue.best()
    metrics = {goal.metric for goal in goals} | set(COSTS)
    rows = [
        {
            "number": trial.number,
            "run_id": trial.run_id,
            "point": trial.point,
            "outcome": trial.outcome,
            "reason": trial.reason,
            "rounds": max(trial.history, default=None),
            "seconds": trial.seconds,
            "values": {key: value for key, value in trial.values.items() if key in metrics},
        }
        for trial in sorted(queue.trials.values(), key=lambda trial: trial.number)
    ]
    front = pareto([trial.objectives(goals) or () for trial in best], goals)
    as_it_was = queue.trials[0].values if queue.study.begins_with_the_job else {}
    return {
        "metrics": [str(goal) for goal in goals],
        "best": {
            "number": best[0].number,
            "run_id": best[0].run_id,
            "point": best[0].point,
            "value": best[0].values[goals[0].metric],
        },
        "as_it_was": as_it_was.get(goals[0].metric),
        "pareto": sorted(best[row].number for row in front) if len(goals) > 1 else [],
        "importance": queue.study.importance(),
        "refused_draws": queue.study.refused,
        "trials": rows,
    }


def pictures(queue: Queue, found: dict[str, Any]) -> dict[str, Any]:
    """Figures of the whole search, by name."""
    goals = queue.study.goals
    tried = [
        Tried(
            trial.number,
            trial.point,
            str(trial.outcome),
            trial.objectives(goals) or (),
            list(trial.history.values())[-1] if trial.history else None,
        )
        for trial in queue.trials.values()
    ]
    names, higher = [goal.metric for goal in goals], [goal.direction == "max" for goal in goals]
    return figures.of_search(tried, names, higher, found["importance"], found["pareto"])


def show_best(uri: str, best: Sequence[Trial]) -> None:
    """Draw the validation scores of the best trials into their runs."""
    for trial in best[:SHOWN]:
        recorder = RunWriter(uri, trial.run_id)
        scores = _stored_scores(uri, trial.run_id)
        threshold = float(json.loads(read_text(connect(uri), uri, trial.run_id, THRESHOLDS_FILE))["image"]["value"])
        measures = compute_split_metrics(scores, threshold, None)
        for name, figure in figures.of_split(scores, threshold, "val", measures).items():
            recorder.figure(figure, f"figures/val_{name}.png")


def _stored_scores(uri: str, run_id: str) -> ImageScores:
    """The scores that a run keeps of its validation part; it keeps no maps."""
    stored = json.loads(read_text(connect(uri), uri, run_id, "scores/val.json"))
    columns = dict(zip(stored["columns"], zip(*stored["data"], strict=True), strict=True))
    return ImageScores(
        ids=tuple(columns["image"]),
        labels=np.array(columns["label"], dtype=np.int64),
        score=np.array(columns["score"], dtype=np.float64),
        defects=tuple(columns["defect"]),
        anomaly_maps=None,
        masks=None,
    )


def optimism(goals: Sequence[Objective], best: Trial, final: ChildRun) -> dict[str, float | None]:
    """How much better the choice looks on validation, which chose it among many, than on the test part, which chose nothing."""
    found: dict[str, float | None] = {}
    for goal in goals:
        name = goal.metric
        if name in COSTS:
            continue
        test = final.metrics.get(f"test/{name}")
        flattery = None if test is None else best.values[name] - test
        found |= {
            f"search/{name}": best.values[name],
            f"val/{name}": final.metrics.get(f"val/{name}"),
            f"test/{name}": test,
            f"test/{name}_low": final.metrics.get(f"test/{name}_low"),
            f"test/{name}_high": final.metrics.get(f"test/{name}_high"),
            f"optimism/{name}": flattery if flattery is None or goal.direction == "max" else -flattery,
        }
    return found
