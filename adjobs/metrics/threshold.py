"""From scores to decisions: a threshold, chosen on validation images, with what is known of its false alarms.

An image raises an alarm when ``score >= threshold``. Test images never take part in the choice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from adjobs.errors import JobError, choices
from adjobs.metrics.inputs import Floats, image_scores
from adjobs.metrics.ranking import f1_max

POLICIES: Mapping[str, str] = {
    "max_f1": "the best F1 on validation images, good and anomalous",
    "max_fpr": "the lowest threshold at which at most the share `value` of good validation images raises an alarm",
    "fixed": "`value` itself",
}


@dataclass(frozen=True)
class Threshold:
    """A threshold and where it came from.

    Attributes:
        policy: one of `POLICIES`.
        value: an image whose score reaches it raises an alarm.
        requested: what the job asked for: the allowed rate of max_fpr, the threshold of fixed, None for max_f1.
        n_normal: good validation images.
        n_anomalous: anomalous validation images.
        false_alarms: good validation images that raise an alarm.
        false_alarm_rate: their share, or None without good images.
        false_alarm_bound: the rate of future false alarms is at most this with probability `confidence`, as long as
            good parts look as they did, or None without good images. See `false_alarm_bound` for what it presumes.
        confidence: of the bound, in (0, 1).
        scores_from: the part of the data set that the scores belong to.
    """

    policy: str
    value: float
    requested: float | None
    n_normal: int
    n_anomalous: int
    false_alarms: int
    false_alarm_rate: float | None
    false_alarm_bound: float | None
    confidence: float
    scores_from: str = "val"

    def to_dict(self) -> dict[str, str | int | float | None]:
        """All attributes, ready for JSON."""
        return asdict(self)


def choose(
    policy: str, labels: ArrayLike, scores: ArrayLike, *, value: float | None = None, confidence: float = 0.95
) -> Threshold:
    """Choose the threshold that ``policy`` names.

    Args:
        policy: one of `POLICIES`.
        labels: ``(N,)``, 0 or 1, of the validation images.
        scores: ``(N,)``, finite.
        value: the largest share of false alarms for max_fpr, in [0, 1); the threshold for fixed; None for max_f1.
        confidence: of the bound on the false-alarm rate, in (0, 1).

    Raises:
        JobError: no such policy, a value it does not take, or validation images that it cannot work with.
        ValueError: labels or scores that are no labels or scores.
    """
    if policy not in POLICIES:
        raise JobError(f"threshold.policy {policy!r}: no such policy; {choices(policy, POLICIES)}")
    if not 0 < confidence < 1:
        raise JobError(f"threshold.confidence: got {confidence}, allowed is above 0 and below 1, such as 0.95")
    truth, values = image_scores(labels, scores)
    normal, anomalous = values[~truth], values[truth]
    if policy == "max_f1":
        threshold = _max_f1(normal, anomalous, value)
    elif policy == "max_fpr":
        threshold = _max_fpr(normal, anomalous, value)
    else:
        threshold = _fixed(value)
    alarms = int((normal >= threshold).sum())
    return Threshold(
        policy=policy,
        value=threshold,
        requested=value,
        n_normal=normal.size,
        n_anomalous=anomalous.size,
        false_alarms=alarms,
        false_alarm_rate=alarms / normal.size if normal.size else None,
        false_alarm_bound=false_alarm_bound(alarms, normal.size, confidence) if normal.size else None,
        confidence=confidence,
    )


def false_alarm_bound(alarms: int, n_normal: int, confidence: float = 0.95) -> float:
    """Exact one-sided upper bound of Clopper and Pearson (1934) on the false-alarm rate, in (0, 1].

    It presumes a threshold chosen without these images. For max_fpr, whose threshold lies just above one of their
    scores, it holds all the same where scores do not tie: the share of good parts above the (k+1)-th highest of n
    scores is distributed as Beta(k+1, n-k) (Wilks 1941), whose quantile is this bound. For max_f1 it is a guide.
    """
    if alarms == n_normal:
        return 1.0
    return float(stats.beta.ppf(confidence, alarms + 1, n_normal - alarms))


def describe(threshold: Threshold) -> str:
    """Say in one sentence what the threshold costs in false alarms."""
    name = threshold.policy if threshold.requested is None else f"{threshold.policy} {threshold.requested:g}"
    if threshold.false_alarm_rate is None or threshold.false_alarm_bound is None:
        return f"{name}: no good validation images, so the false-alarm rate is not known"
    raised = "image raises" if threshold.n_normal == 1 else "images raise"
    at_most = math.ceil(1000 * threshold.false_alarm_bound) / 10  # rounded up, or the sentence would promise too much
    return (
        f"{name}: {threshold.false_alarms} of {threshold.n_normal} good validation {raised} an alarm "
        f"({100 * threshold.false_alarm_rate:.1f} %, "
        f"at most {at_most:.1f} % with {100 * threshold.confidence:g} % confidence)"
    )


def _max_f1(normal: Floats, anomalous: Floats, value: float | None) -> float:
    if value is not None:
        raise JobError(f"threshold.policy max_f1: takes no value, got {value}; leave threshold.value out")
    if not anomalous.size:
        raise JobError(
            "threshold.policy max_f1: validation has 0 anomalous images, needs at least 1; use max_fpr or label anomalies"
        )
    labels = np.repeat((0, 1), (normal.size, anomalous.size))
    best = f1_max(labels, np.concatenate((normal, anomalous)))
    if best is None:
        raise JobError("threshold.policy max_f1: validation has 0 good images, needs at least 1; use fixed or add good images")
    return best[1]


def _max_fpr(normal: Floats, anomalous: Floats, value: float | None) -> float:
    if value is None or not 0 <= value < 1:
        raise JobError(
            f"threshold.policy max_fpr: got value {value}, allowed is 0 or more and below 1; "
            "set threshold.value to the share of false alarms to accept, such as 0.01"
        )
    if not normal.size:
        raise JobError("threshold.policy max_fpr: validation has 0 good images, needs at least 1; use fixed or add good images")
    # Compared as count / n: floor(value * n) would allow 28 of 100 at 0.29.
    shares = np.arange(normal.size + 1) / normal.size
    allowed = int(np.searchsorted(shares, value, side="right")) - 1
    first_to_pass = float(np.sort(normal)[::-1][allowed])
    return _just_above(first_to_pass, np.concatenate((normal, anomalous)))


def _just_above(score: float, scores: Floats) -> float:
    """The next number above ``score`` in the precision that all ``scores`` have.

    Scores computed in float32 get a float32 threshold: NumPy and PyTorch compare a float32 array with a Python float in
    float32, where a threshold one float64 step above a score is that score, and the image would raise an alarm.
    """
    with np.errstate(over="ignore"):
        single = scores.astype(np.float32)
    if np.array_equal(single, scores):
        return float(np.nextafter(np.float32(score), np.float32(np.inf)))
    return float(np.nextafter(score, np.inf))


def _fixed(value: float | None) -> float:
    if value is None or not math.isfinite(value):
        raise JobError(f"threshold.policy fixed: got value {value}, needs a finite number; set threshold.value to the threshold")
    return float(value)
