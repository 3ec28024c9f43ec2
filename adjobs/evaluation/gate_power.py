"""What the gate can see with so many images, in numbers and words."""

from __future__ import annotations

from adjobs.evaluation.gate_policy import GatePolicy
from adjobs.evaluation.gate_verdict import GatePower
from adjobs.evaluation.paired_rates import MAX_NEEDED, detectable_gain, needed_images, power

ASSUMED_LOSS = 0.05
"""Share of the anomalies that only the champion detects: two trainings of one method differ on some, however much one gains."""


def state_power(policy: GatePolicy, new_anomalies: int, test_anomalies: int) -> GatePower:
    """State the power of a policy before any score is seen; it depends on the numbers of images alone.

    Args:
        policy: of the gate.
        new_anomalies: newly labelled ones, independent of each other.
        test_anomalies: of the test split, likewise.
    """
    gain = needed = equal = None
    sentences = []
    if policy.target_gain is not None:
        gain = detectable_gain(new_anomalies, ASSUMED_LOSS, policy.alpha, policy.power)
        needed = needed_images(policy.target_gain, ASSUMED_LOSS, policy.alpha, policy.power)
        sentences.append(_gain_sentence(policy, new_anomalies, gain, needed))
    if policy.recall_margin is not None and test_anomalies:
        equal = power(test_anomalies, ASSUMED_LOSS, ASSUMED_LOSS, policy.alpha, -policy.recall_margin)
        sentences.append(
            f"with {test_anomalies} anomalies in the test split, a challenger of equal recall passes the check of recall with "
            f"a probability of {equal:.0%}"
        )
    return GatePower(
        new_anomalies=new_anomalies,
        probability=policy.power,
        detectable_gain=gain,
        target_gain=policy.target_gain,
        needed_anomalies=needed,
        equal_recall=equal,
        sentences=tuple(sentences),
    )


def _gain_sentence(policy: GatePolicy, n: int, gain: float | None, needed: int | None) -> str:
    seen = "no gain, however large," if gain is None else f"a gain of {gain:.0%} of recall"
    takes = f"more than {MAX_NEEDED:,}" if needed is None else f"about {needed}"
    return (
        f"with {n} new anomalies this gate sees {seen} with a probability of {policy.power:.0%}, if {ASSUMED_LOSS:.0%} are "
        f"detected by the champion alone; a gain of {policy.target_gain:.0%} takes {takes}"
    )
