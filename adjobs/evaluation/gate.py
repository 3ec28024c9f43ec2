"""The gate: may the challenger replace the champion? Score tables and a policy in, a verdict out.

Each check is a test with error alpha of the hypothesis that its bound is broken. All must pass, so the chance to promote a
challenger that breaks any bound is at most alpha, whatever the number of checks and however they depend on each other
(intersection-union test, Berger 1982): no correction for several checks is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from adjobs.errors import DataError, shown
from adjobs.evaluation.behaviour import ChangedDecisions
from adjobs.evaluation.gate_policy import GatePolicy
from adjobs.evaluation.gate_power import state_power
from adjobs.evaluation.gate_verdict import Decision, GateCheck, GateVerdict, Status
from adjobs.evaluation.paired_auroc import auroc_difference
from adjobs.evaluation.paired_rates import Disagreement, lower_limit, upper_limit
from adjobs.evaluation.score_table import PairedScores, ScoreTable, pair_scores
from adjobs.metrics.inputs import Bools
from adjobs.metrics.intervals import proportion


@dataclass(frozen=True)
class PredictionCost:
    """What a model's prediction takes; None where it was not measured.

    Attributes:
        ms_per_image: milliseconds.
        memory_mib: peak memory in MiB.
    """

    ms_per_image: float | None = None
    memory_mib: float | None = None


def evaluate_gate(
    policy: GatePolicy,
    test: tuple[ScoreTable, ScoreTable],
    new: tuple[ScoreTable, ScoreTable] | None = None,
    *,
    cost: PredictionCost | None = None,
    behaviours: Iterable[ChangedDecisions] = (),
) -> GateVerdict:
    """Compare a challenger with the champion.

    Args:
        policy: what the challenger must show.
        test: champion and challenger on the frozen test split, scored by the same code.
        new: champion and challenger on newly labelled anomalies that neither was trained or calibrated on; None: there are none.
        cost: of the challenger.
        behaviours: decisions of the challenger that changed.

    Raises:
        DataError: tables that cannot be compared: scores that are not finite, different images or labels, an image twice, an
            image in both sets, a normal image among the new anomalies.
    """
    old = pair_scores(*test, "test split")
    labelled = None if new is None else pair_scores(*new, "new anomalies")
    if labelled is not None:
        _check_new(old, labelled)
    checks = (
        _check_auroc(policy, old),
        _check_recall(policy, old),
        _check_gain(policy, labelled),
        _check_false_alarms(policy, old),
        _check_limit("latency", "ms", policy.max_ms_per_image, None if cost is None else cost.ms_per_image),
        _check_limit("memory", "MiB", policy.max_memory_mib, None if cost is None else cost.memory_mib),
        *_check_behaviours(policy, behaviours),
    )
    n_new = 0 if labelled is None else int(labelled.truth.sum())
    power = state_power(policy, n_new, int(old.truth.sum()))
    decision = decide(checks)
    return GateVerdict(decision=decision, sentence=_summarize(decision, checks), checks=checks, power=power, policy=policy)


def decide(checks: Sequence[GateCheck]) -> Decision:
    """Refuse if a check failed, promote if all passed that were not skipped, else undecided."""
    statuses = {check.status for check in checks} - {"skipped"}
    if "failed" in statuses:
        return "refuse"
    return "promote" if statuses == {"passed"} else "undecided"


def _check_new(old: PairedScores, new: PairedScores) -> None:
    shared = old.names & new.names
    if shared:
        raise DataError(
            f"new anomalies: {len(shared)} images or parts are in the test split, too, such as {shown(min(shared))}; "
            "keep each in one set"
        )
    if not new.truth.all():
        raise DataError(
            f"new anomalies: got {int((~new.truth).sum())} normal {new.unit}, allowed are anomalous ones; "
            "add normal images to the test split instead"
        )


def _check_auroc(policy: GatePolicy, old: PairedScores) -> GateCheck:
    """Non-inferiority, by DeLong's variances on the logit scale; see `paired_auroc`."""
    name, margin = "auroc", policy.auroc_margin
    if margin is None:
        return _skipped(name)
    if len(old.challenger) > 1 and np.ptp(old.challenger) == 0:
        sentence = "image AUROC on the test split: the challenger gives every image the same score; train it again"
        return GateCheck(name=name, status="failed", sentence=sentence, bound=-margin)
    difference = auroc_difference(old.truth, old.challenger, old.champion, 1 - 2 * policy.alpha)
    what = "image AUROC on the test split, challenger minus champion"
    if difference.value is None or difference.low is None or difference.high is None:
        sentence = f"{what}: {difference.reason}; add images to the test split"
        return GateCheck(name=name, status="undecided", sentence=sentence, value=difference.value, bound=-margin)
    return _not_worse(name, what, difference.value, difference.low, difference.high, margin)


def _check_recall(policy: GatePolicy, old: PairedScores) -> GateCheck:
    """Non-inferiority by the exact paired test."""
    name, margin = "recall", policy.recall_margin
    if margin is None:
        return _skipped(name)
    what = "recall on the test split, challenger minus champion"
    counts = _disagreement(old, old.truth)
    if counts is None:
        return GateCheck(
            name=name, status="undecided", sentence=f"{what}: no anomalous images; add some to the test split", bound=-margin
        )
    low, high = lower_limit(counts, policy.alpha, -margin), upper_limit(counts, policy.alpha, 0.0)
    return _not_worse(name, what, counts.difference, low, high, margin)


def _not_worse(name: str, what: str, value: float, low: float, high: float, margin: float) -> GateCheck:
    limits = f"{value:+.3f} ({low:+.3f} to {high:+.3f})"
    status: Status
    if low >= -margin:
        status, words = "passed", f"not worse by {margin:g}"
    elif high < 0:
        status, words = "failed", f"worse, and perhaps by more than {margin:g}"
    else:
        status, words = (
            "undecided",
            f"a loss of {margin:g} is not excluded; add anomalies to the test split, or accept a larger loss",
        )
    return GateCheck(
        name=name, status=status, sentence=f"{what}: {limits}; {words}", value=value, low=low, high=high, bound=-margin
    )


def _check_gain(policy: GatePolicy, new: PairedScores | None) -> GateCheck:
    """Superiority by the exact paired test."""
    name, target = "new_recall", policy.target_gain
    if target is None:
        return _skipped(name)
    what = "recall on the new anomalies, challenger minus champion"
    counts = None if new is None else _disagreement(new, new.truth)
    if new is None or counts is None:
        return GateCheck(name=name, status="undecided", sentence=f"{what}: no new anomalies; label some", bound=0.0)
    low, high = lower_limit(counts, policy.alpha, 0.0), upper_limit(counts, policy.alpha, target)
    detected = f"{counts.first_only} gained and {counts.second_only} lost of {counts.n}"
    limits = f"{counts.difference:+.3f} ({low:+.3f} to {high:+.3f}), {detected}"
    status: Status
    if low >= 0 and counts.difference > 0:
        status, words = "passed", "better"
    elif high <= target:
        status, words = "failed", f"a gain of {target:g} is excluded"
    else:
        status, words = "undecided", "neither a gain nor its absence is shown; label more of these anomalies"
    return GateCheck(
        name=name, status=status, sentence=f"{what}: {limits}; {words}", value=counts.difference, low=low, high=high, bound=0.0
    )


def _check_false_alarms(policy: GatePolicy, old: PairedScores) -> GateCheck:
    normal = ~old.truth
    alarms = int(old.challenger_alarms[normal].sum())
    what = f"normal {old.unit} of the test split that raise an alarm"
    return _check_share("false_alarm_rate", what, alarms, int(normal.sum()), policy.max_false_alarm_rate, policy.alpha)


def _check_behaviours(policy: GatePolicy, changed: Iterable[ChangedDecisions]) -> list[GateCheck]:
    counts = {item.behaviour: item for item in changed}
    checks = []
    for behaviour in policy.behaviours:
        counted = counts.get(behaviour, ChangedDecisions(behaviour, 0, 0))
        what = f"decisions that change under '{behaviour}'"
        checks.append(
            _check_share(
                f"behaviour/{behaviour}", what, counted.changed, counted.total, policy.max_changed_decisions, policy.alpha
            )
        )
    return checks


def _check_share(name: str, what: str, hits: int, total: int, bound: float | None, alpha: float) -> GateCheck:
    """A share against its upper bound, by the exact limits of Clopper and Pearson (1934)."""
    if bound is None:
        return _skipped(name)
    share = proportion(hits, total, 1 - 2 * alpha)
    if share.value is None or share.low is None or share.high is None:
        sentence = f"{what}: no images were evaluated; evaluate some"
        return GateCheck(name=name, status="undecided", sentence=sentence, bound=bound, direction="at most")
    status: Status
    if share.high <= bound:
        status, words = "passed", f"at most {bound:g}"
    elif share.low > bound:
        status, words = "failed", f"more than {bound:g}"
    else:
        status, words = (
            "undecided",
            f"neither at most {bound:g} nor more is shown; evaluate more images, or accept a larger share",
        )
    sentence = f"{what}: {hits} of {total}, {share.value:.3f} ({share.low:.3f} to {share.high:.3f}); {words}"
    return GateCheck(
        name=name,
        status=status,
        sentence=sentence,
        value=share.value,
        low=share.low,
        high=share.high,
        bound=bound,
        direction="at most",
    )


def _check_limit(name: str, unit: Literal["ms", "MiB"], bound: float | None, value: float | None) -> GateCheck:
    """A measured cost against its limit."""
    if bound is None:
        return _skipped(name)
    status: Status = "undecided" if value is None else "passed" if value <= bound else "failed"
    words = (
        "it was not measured; measure it, or leave the limit out"
        if value is None
        else f"{value:.4g} {unit}, limit {bound:g} {unit}"
    )
    sentence = f"{name} of a prediction: {words}"
    return GateCheck(name=name, status=status, sentence=sentence, value=value, bound=bound, direction="at most", unit=unit)


def _skipped(name: str) -> GateCheck:
    return GateCheck(name=name, status="skipped", sentence=f"{name}: the policy does not check it")


def _disagreement(scores: PairedScores, selected: Bools) -> Disagreement | None:
    """How the decisions on the selected units differ, the challenger first; None if no unit is selected."""
    if not selected.any():
        return None
    challenger, champion = scores.challenger_alarms[selected], scores.champion_alarms[selected]
    return Disagreement(int((challenger & ~champion).sum()), int((champion & ~challenger).sum()), int(selected.sum()))


def _summarize(decision: Decision, checks: Sequence[GateCheck]) -> str:
    """The decision with the sentences of the checks that it rests on."""
    reasons = {"refuse": "failed", "undecided": "undecided", "promote": "passed"}
    deciding = [check for check in checks if check.status == reasons[decision]]
    n_checked = sum(check.status != "skipped" for check in checks)
    if decision == "promote":
        return f"promote: all {n_checked} checks passed"
    return f"{decision}: {len(deciding)} of {n_checked} checks {reasons[decision]}: " + "; ".join(
        check.sentence for check in deciding
    )
