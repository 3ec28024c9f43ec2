"""From image scores to decisions: a threshold chosen on validation images, with what is known of its false alarms.

An image raises an alarm when ``score >= threshold``. Test images never take part in the choice.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import asdict, dataclass
from typing import cast

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from adjobs.errors import JobError, choices, shown
from adjobs.metrics import CONFIDENCE, cuts
from adjobs.metrics.inputs import Floats, check_image_scores
from adjobs.metrics.policies import POLICIES, Policy, ThresholdPolicy
from adjobs.metrics.ranges import Confidence, Count, Share


@dataclass(frozen=True)
class Threshold:
    """A threshold for images and where it came from.

    Attributes:
        policy: one of `POLICIES`.
        value: finite; an image whose score reaches it raises an alarm.
        requested: the policy's value: the allowed rate of max_fpr, the threshold of fixed, the cost of miss_cost, the share of
            defect_ratio (None: that of the anomalies); None for max_f1.
        n_normal: normal validation images.
        n_anomalous: anomalous validation images.
        false_alarms: normal validation images that raise an alarm.
        false_alarm_rate: their share, or None without normal images.
        false_alarm_bound: the rate of future false alarms is at most this with probability `confidence`, as long as
            normal images look as they did, or None without normal images. See `false_alarm_bound` for what it assumes.
        confidence: of the bound, in (0, 1).
        misses: anomalous validation images that raise no alarm.
        strict: whether the bound and not the share was to keep to the requested rate.
        guaranteed: for max_fpr, whether the bound keeps to the requested rate; None for other policies.
        needed_normal: for max_fpr, how many normal images without an alarm bound the rate as requested; None if no number
            does, and for other policies.
    """

    policy: Policy
    value: float
    requested: float | None
    n_normal: Count
    n_anomalous: Count
    false_alarms: Count
    false_alarm_rate: Share | None
    false_alarm_bound: Share | None
    confidence: Confidence
    misses: Count
    strict: bool = False
    guaranteed: bool | None = None
    needed_normal: Count | None = None

    def to_dict(self) -> dict[str, str | int | float | None]:
        """All attributes, ready for JSON."""
        return asdict(self)

    def describe(self) -> str:
        """Say in one sentence what the threshold costs in false alarms and misses, and at what rate they are bounded."""
        name = ThresholdPolicy(self.policy, self.requested)
        if self.false_alarm_rate is None or self.false_alarm_bound is None:
            return f"{name}: no normal validation images, so the false-alarm rate is unknown"
        raised = "image raises" if self.n_normal == 1 else "images raise"
        missed = ""
        if self.n_anomalous:
            missed = f", {self.misses} of {self.n_anomalous} anomalous {'is' if self.misses == 1 else 'are'} missed"
        return (
            f"{name}: {self.false_alarms} of {self.n_normal} normal validation {raised} an alarm "
            f"({100 * self.false_alarm_rate:.1f} %, at most {percent_rounded_up(self.false_alarm_bound)} % "
            f"with {100 * self.confidence:g} % confidence){missed}{self._describe_bound()}"
        )

    def _describe_bound(self) -> str:
        """The end of the sentence: whether the requested rate bounds that of future false alarms, and what that takes."""
        if self.guaranteed is None or self.requested is None:
            return ""
        rate = f"{100 * self.requested:g} %"
        if self.guaranteed:
            return f"; bounded at {rate} ({100 * self.confidence:g} % confidence)"
        if self.needed_normal is None:
            return f"; no number of images bounds it at {rate}"
        if self.n_normal >= self.needed_normal:
            return f"; not bounded at {rate}, with strict=true it would be"
        return f"; not bounded at {rate}, which takes {self.needed_normal} normal images without an alarm"


def choose_threshold(policy: ThresholdPolicy, labels: ArrayLike, scores: ArrayLike) -> Threshold:
    """Choose the threshold for images by a policy.

    Args:
        policy: how to choose.
        labels: ``(N,)``, 0 or 1, of the validation images.
        scores: ``(N,)``, finite.

    Raises:
        JobError: unknown policy, a value it does not take, or validation images that it cannot work with.
        ValueError: labels that are not 0 or 1, scores that are not finite, or another number of them.
    """
    truth, values = check_image_scores(labels, scores)
    normal, anomalous = values[~truth], values[truth]
    check_possible(policy, normal.size, anomalous.size)
    threshold = _cut(policy, normal, anomalous)
    check_finite(threshold, "threshold", policy)
    alarms = int((normal >= threshold).sum())
    bound = false_alarm_bound(alarms, normal.size, policy.confidence) if normal.size else None
    rate = policy.value if policy.name == "max_fpr" else None
    return Threshold(
        policy=cast(Policy, policy.name),  # checked above
        value=threshold,
        requested=policy.value,
        n_normal=normal.size,
        n_anomalous=anomalous.size,
        false_alarms=alarms,
        false_alarm_rate=alarms / normal.size if normal.size else None,
        false_alarm_bound=bound,
        confidence=policy.confidence,
        misses=int((anomalous < threshold).sum()),
        strict=policy.strict,
        guaranteed=None if rate is None or bound is None else bound <= rate,
        needed_normal=None if rate is None else images_needed(rate, policy.confidence),
    )


def check_possible(policy: ThresholdPolicy, n_normal: int, n_anomalous: int) -> None:
    """Refuse a policy that cannot work on so many validation images; a job checks this before it trains.

    Raises:
        JobError: unknown policy, a value it does not take, a class it needs is missing, or a bound that needs more images.
    """
    name = policy.name
    if name not in POLICIES:
        raise JobError(f"threshold.policy: unknown policy {shown(name)}; {choices(name, POLICIES)}")
    check_confidence(policy.confidence)
    fault = policy.find_fault()
    if fault:
        raise JobError(f"threshold.{fault}")
    if policy.needs_anomalies and not n_anomalous:
        advice = "give it a value" if name == "defect_ratio" else "use max_fpr, or label anomalies"
        raise JobError(f"threshold.policy {name}: validation has 0 anomalous images, needs at least 1; {advice}")
    if (policy.needs_anomalies or name == "max_fpr") and not n_normal:
        advice = "use fixed, or add normal images"
        raise JobError(f"threshold.policy {name}: validation has 0 normal images, needs at least 1; {advice}")
    if name == "defect_ratio" and not n_normal + n_anomalous:
        raise JobError("threshold.policy defect_ratio: validation has 0 images, needs at least 1; use fixed, or add images")
    if policy.strict and policy.value is not None:
        _check_bound(policy.value, n_normal, policy.confidence)


def check_confidence(confidence: float) -> None:
    """Refuse a confidence outside (0, 1) with a JobError."""
    if not 0 < confidence < 1:
        raise JobError(f"threshold.confidence: got {confidence}, allowed is above 0 and below 1, such as {CONFIDENCE}")


def check_finite(threshold: float, section: str, policy: ThresholdPolicy) -> None:
    """Refuse a threshold that no number can hold, such as one above the largest float32 score, with a JobError."""
    if not math.isfinite(threshold):
        raise JobError(f"{section}: policy {policy} gives {threshold}, must be finite; the scores are too large: train again")


def false_alarm_bound(alarms: int, n_normal: int, confidence: float = CONFIDENCE) -> float:
    """Exact one-sided upper bound of Clopper and Pearson (1934) on the false-alarm rate, in (0, 1].

    It assumes a threshold chosen without these images. For max_fpr, whose threshold lies just above one of their
    scores, it holds all the same where scores do not tie: the share of normal images above the (k+1)-th highest of n
    scores is distributed as Beta(k+1, n-k) (Wilks 1941), whose quantile is this bound. For other policies it is a guide.
    """
    if alarms == n_normal:
        return 1.0
    if alarms == 0:  # the rate p at which (1 - p) ** n_normal is 1 - confidence
        return -math.expm1(math.log1p(-confidence) / n_normal)
    return float(special.betaincinv(alarms + 1, n_normal - alarms, confidence))


def images_needed(rate: float, confidence: float = CONFIDENCE) -> int | None:
    """The fewest normal images that, without one alarm, bound the false-alarm rate by ``rate``; None if no number does.

    >>> images_needed(0.01)
    299
    """
    if rate <= 0:
        return None
    estimate = math.log1p(-confidence) / math.log1p(-rate)
    if not math.isfinite(estimate):
        return None
    rounded = max(1, round(estimate))
    fewest = (n for n in (rounded - 1, rounded, rounded + 1) if n > 0 and false_alarm_bound(0, n, confidence) <= rate)
    return next(fewest, rounded)


def percent_rounded_up(bound: float) -> str:
    """A bound in per cent with one digit, rounded up so that the text never claims more than was shown."""
    return f"{math.ceil(1000 * bound) / 10:.1f}"


def _check_bound(rate: float, n_normal: int, confidence: float) -> None:
    best = false_alarm_bound(0, n_normal, confidence)
    if best <= rate:
        return
    raise JobError(
        f"threshold.strict: at most {100 * rate:g} % false alarms with {100 * confidence:g} % confidence takes "
        f"{images_needed(rate, confidence) or 'more'} normal validation images without an alarm, got {n_normal}, which bound it "
        f"at {percent_rounded_up(best)} % at best; add normal images, set value to {math.ceil(1e4 * best) / 1e4:g}, or "
        "set strict to false"
    )


def _cut(policy: ThresholdPolicy, normal: Floats, anomalous: Floats) -> float:
    """The threshold of a policy that is possible on these scores."""
    if policy.name == "max_f1":
        return cuts.best_f1(normal, anomalous)
    if policy.name == "defect_ratio":
        scores = np.concatenate((normal, anomalous))
        return cuts.nearest_share(scores, anomalous.size / scores.size if policy.value is None else policy.value)
    value = math.nan if policy.value is None else policy.value  # the other policies have one, or were refused
    if policy.name == "miss_cost":
        return cuts.least_cost(normal, anomalous, value)
    if policy.name == "max_fpr":
        return cuts.lowest_passing(normal, _allowed_alarms(policy, value, normal.size), anomalous)
    return float(value)


def _allowed_alarms(policy: ThresholdPolicy, rate: float, n_normal: int) -> int:
    """How many normal images may raise an alarm: by their share, or by its bound if the policy is strict."""
    if not policy.strict:
        return cuts.allowed_alarms(rate, n_normal)
    return bisect.bisect_right(range(n_normal), rate, key=lambda k: false_alarm_bound(k, n_normal, policy.confidence)) - 1
