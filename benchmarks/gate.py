"""How often does the gate promote? Simulated challengers that are equal, better, or worse by a margin.

    python benchmarks/gate.py [--repeats 500] [--seed 0]

Each repeat draws normally distributed scores of the same images for both models and lets `evaluate_gate` decide. Behaviours are
left out. A row of an unfit challenger leaves only the check of its fault, and that of the gain, to stop it: more checks make its
promotion rarer.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from adjobs.evaluation.gate import evaluate_gate
from adjobs.evaluation.gate_policy import GatePolicy
from adjobs.evaluation.score_table import ScoreTable
from adjobs.metrics.intervals import proportion

N_NORMAL, N_ANOMALOUS = 200, 60  # of the test split
FALSE_ALARM_RATE, RECALL, NEW_RECALL = 0.005, 0.85, 0.3  # of the champion
CORRELATION = 0.5  # of both models' scores of an image, within its class


class Scenario(NamedTuple):
    """What is true of the simulated challenger, beside the champion.

    Attributes:
        name: in the table.
        is_unfit: whether a promotion is an error.
        policy: keys that differ from the defaults.
        loss: of recall on the test split.
        auroc_loss: on the test split.
        gain: of recall on the new anomalies.
        false_alarm_rate: of the challenger.
        n_new: number of new anomalies.
        n_anomalous: anomalies in the test split.
    """

    name: str
    is_unfit: bool
    policy: dict[str, Any]
    loss: float = 0.0
    auroc_loss: float = 0.0
    gain: float = 0.0
    false_alarm_rate: float = FALSE_ALARM_RATE
    n_new: int = 18
    n_anomalous: int = N_ANOMALOUS


_GAIN_ONLY: dict[str, Any] = {"auroc_margin": None, "recall_margin": None, "max_false_alarm_rate": None}
_RECALL: dict[str, Any] = {"auroc_margin": None, "max_false_alarm_rate": None}
_AUROC: dict[str, Any] = {"recall_margin": None, "max_false_alarm_rate": None}
_ALARMS: dict[str, Any] = {"auroc_margin": None, "recall_margin": None}
SCENARIOS = (
    Scenario("equal, 18 new anomalies", True, _GAIN_ONLY),
    Scenario("equal, 100 new anomalies", True, _GAIN_ONLY, n_new=100),
    Scenario("equal, 250 new anomalies", True, _GAIN_ONLY, n_new=250),
    Scenario("equal, all checks", True, {}),
    Scenario("gain of 0.6, recall worse by its margin, 0.1", True, _RECALL, gain=0.6, loss=0.1),
    Scenario("gain of 0.6, recall worse by twice its margin", True, _RECALL, gain=0.6, loss=0.2),
    Scenario("gain of 0.6, AUROC worse by its margin, 0.03", True, _AUROC, gain=0.6, auroc_loss=0.03),
    Scenario("the same, 20 anomalies in the test split", True, _AUROC, gain=0.6, auroc_loss=0.03, n_anomalous=20),
    Scenario("gain of 0.6, false alarms at the bound, 0.05", True, _ALARMS, gain=0.6, false_alarm_rate=0.05),
    Scenario("gain of 0.6, all checks", False, {}, gain=0.6),
    Scenario("gain of 0.6, all checks, recall margin 0.2", False, {"recall_margin": 0.2}, gain=0.6),
    Scenario("gain of 0.2, all checks, recall margin 0.2", False, {"recall_margin": 0.2}, gain=0.2),
    Scenario("the same, 100 new anomalies", False, {"recall_margin": 0.2}, gain=0.2, n_new=100),
)


def simulate(scenario: Scenario, repeats: int, rng: np.random.Generator) -> Counter[str]:
    """Count the decisions of ``repeats`` draws."""
    policy = GatePolicy.from_dict({"behaviours": [], **scenario.policy})
    champion = float(special.ndtri(1 - FALSE_ALARM_RATE))
    challenger = float(special.ndtri(1 - scenario.false_alarm_rate))
    shift = champion + special.ndtri(RECALL)
    challenger_shift = challenger + special.ndtri(RECALL - scenario.loss)
    if scenario.auroc_loss:
        challenger_shift = math.sqrt(2) * special.ndtri(special.ndtr(shift / math.sqrt(2)) - scenario.auroc_loss)
    labels, new_labels = np.repeat([0, 1], [N_NORMAL, scenario.n_anomalous]), np.ones(scenario.n_new, dtype=np.int64)
    new_shifts = champion + special.ndtri(NEW_RECALL), challenger + special.ndtri(NEW_RECALL + scenario.gain)
    thresholds = champion, challenger
    decisions: Counter[str] = Counter()
    for _ in range(repeats):
        test = _draw("test", labels, (shift, challenger_shift), thresholds, rng)
        decisions[evaluate_gate(policy, test, _draw("new", new_labels, new_shifts, thresholds, rng)).decision] += 1
    return decisions


def _draw(
    name: str, labels: np.ndarray, shifts: Sequence[float], thresholds: Sequence[float], rng: np.random.Generator
) -> tuple[ScoreTable, ScoreTable]:
    """Scores of both models: unit variance within a class, anomalies higher by each model's shift."""
    common, own = rng.normal(size=len(labels)), rng.normal(size=(2, len(labels)))
    ids = [f"{name}/{i}" for i in range(len(labels))]
    first, second = (
        ScoreTable(ids, labels, math.sqrt(CORRELATION) * common + math.sqrt(1 - CORRELATION) * noise + shift * labels, threshold)
        for noise, shift, threshold in zip(own, shifts, thresholds, strict=True)
    )
    return first, second


def table_row(scenario: Scenario, decisions: Counter[str], alpha: float) -> list[str]:
    """A row of the table; the interval is that of the simulation."""
    total = decisions.total()
    promoted = proportion(decisions["promote"], total)
    bound = f"≤ {alpha:.0%}" if scenario.is_unfit else "–"
    interval = f"{promoted.low:.1%} to {promoted.high:.1%}"
    shares = [f"{decisions[decision] / total:.1%}" for decision in ("promote", "refuse", "undecided")]
    return [scenario.name, bound, shares[0], interval, *shares[1:]]


def main() -> None:
    """Simulate, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=500, help="draws of each row")
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    alpha = GatePolicy().alpha
    rows = [table_row(scenario, simulate(scenario, arguments.repeats, rng), alpha) for scenario in SCENARIOS]
    import torch
    from report import machine, table, write_result

    write_result(
        "gate-calibration",
        "Calibration of the gate by simulation",
        machine(torch.device("cpu")),
        [
            f"{arguments.repeats} draws a row: a test split of {N_NORMAL} normal and {N_ANOMALOUS} anomalous images, 18 new "
            f"anomalies unless stated; the champion's false-alarm rate is {FALSE_ALARM_RATE}, its recall {RECALL}, on the new "
            f"anomalies {NEW_RECALL}; scores of both models correlate by {CORRELATION}. Default policy without behaviours; the "
            "rows of unfit challengers leave only the check of their fault and that of the gain.",
            table("| challenger | stated | promoted | 95 % interval | refused | undecided |", rows),
        ],
    )


if __name__ == "__main__":
    main()
