"""From image scores to decisions: a threshold, chosen on validation images, with what is known of its false alarms.

An image raises an alarm when ``score >= threshold``. Test images never take part in the choice.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from adjobs.errors import JobError, choices
from adjobs.metrics import cuts
from adjobs.metrics.inputs import Floats, image_scores
from adjobs.metrics.policies import POLICIES, needs_anomalies, wrong_value


@dataclass(frozen=True)
class Threshold:
    """A threshold and where it came from.

    Attributes:
        policy: one of `POLICIES`.
        value: an image whose score reaches it raises an alarm.
        requested: what the job asked for: the allowed rate of max_fpr, the threshold of fixed, the cost of miss_cost, the
            share of defect_ratio (None: that of the anomalies); None for max_f1.
        n_normal: good validation images.
        n_anomalous: anomalous validation images.
        false_alarms: good validation images that raise an alarm.
        false_alarm_rate: their share, or None without good images.
        false_alarm_bound: the rate of future false alarms is at most this with probability `confidence`, as long as
            good parts look as they did, or None without good images. See `false_alarm_bound` for what it presumes.
        confidence: of the bound, in (0, 1).
        misses: anomalous validation images that raise no alarm.
        scores_from: the part of the data set that the scores belong to.
        strict: whether the bound and not the share was to keep to the requested rate.
        promised: for max_fpr, whether the bound keeps to the requested rate; None for other policies.
        needed: for max_fpr, how many good images without an alarm promise the requested rate; None if no number does, and
            for other policies.
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
    misses: int
    scores_from: str = "val"
    strict: bool = False
    promised: bool | None = None
    needed: int | None = None

    def to_dict(self) -> dict[str, str | int | float | None]:
        """All attributes, ready for JSON."""
        return asdict(self)


def choose(
    policy: str,
    labels: ArrayLike,
    scores: ArrayLike,
    *,
    value: float | None = None,
    confidence: float = 0.95,
    strict: bool = False,
) -> Threshold:
    """Choose the threshold that ``policy`` names.

    Args:
        policy: one of `POLICIES`.
        labels: ``(N,)``, 0 or 1, of the validation images.
        scores: ``(N,)``, finite.
        value: the largest share of false alarms for max_fpr, in [0, 1); the threshold for fixed; the cost of a miss over the
            cost of a false alarm for miss_cost, above 0; the share of all images that is to raise an alarm for defect_ratio,
            in (0, 1), or None for the share of the anomalous ones; None for max_f1.
        confidence: of the bound on the false-alarm rate, in (0, 1).
        strict: for max_fpr: keep the bound, not only the share on validation, at or below ``value``.

    Raises:
        JobError: no such policy, a value it does not take, or validation images that it cannot work with.
        ValueError: labels or scores that are no labels or scores.
    """
    truth, values = image_scores(labels, scores)
    normal, anomalous = values[~truth], values[truth]
    check_possible(policy, normal.size, anomalous.size, value=value, confidence=confidence, strict=strict)
    threshold = _cut(policy, normal, anomalous, value, confidence if strict else None)
    alarms = int((normal >= threshold).sum())
    bound = false_alarm_bound(alarms, normal.size, confidence) if normal.size else None
    rate = value if policy == "max_fpr" else None
    return Threshold(
        policy=policy,
        value=threshold,
        requested=value,
        n_normal=normal.size,
        n_anomalous=anomalous.size,
        false_alarms=alarms,
        false_alarm_rate=alarms / normal.size if normal.size else None,
        false_alarm_bound=bound,
        confidence=confidence,
        misses=int((anomalous < threshold).sum()),
        strict=strict,
        promised=None if rate is None or bound is None else bound <= rate,
        needed=None if rate is None else images_needed(rate, confidence),
    )


def check_possible(
    policy: str,
    n_normal: int,
    n_anomalous: int,
    *,
    value: float | None = None,
    confidence: float = 0.95,
    strict: bool = False,
) -> None:
    """Refuse what cannot be chosen on so many validation images; a job asks before it trains.

    Raises:
        JobError: no such policy, a value it does not take, a class it needs is missing, or a promise that needs more images.
    """
    if policy not in POLICIES:
        raise JobError(f"threshold.policy {policy!r}: no such policy; {choices(policy, POLICIES)}")
    check_confidence(confidence)
    fault = wrong_value(policy, value, strict=strict)
    if fault:
        raise JobError(f"threshold.{fault}")
    compares = needs_anomalies(policy, value)
    if compares and not n_anomalous:
        instead = "give it a value" if policy == "defect_ratio" else "use max_fpr, or label anomalies"
        raise JobError(f"threshold.policy {policy}: validation has 0 anomalous images, needs at least 1; {instead}")
    if (compares or policy == "max_fpr") and not n_normal:
        raise JobError(
            f"threshold.policy {policy}: validation has 0 good images, needs at least 1; use fixed, or add good images"
        )
    if policy == "defect_ratio" and not n_normal + n_anomalous:
        raise JobError("threshold.policy defect_ratio: validation has 0 images, needs at least 1; use fixed, or add images")
    if strict and value is not None:
        _check_promise(value, n_normal, confidence)


def check_confidence(confidence: float) -> None:
    """Refuse a confidence outside (0, 1) with a JobError."""
    if not 0 < confidence < 1:
        raise JobError(f"threshold.confidence: got {confidence}, allowed is above 0 and below 1, such as 0.95")


def false_alarm_bound(alarms: int, n_normal: int, confidence: float = 0.95) -> float:
    """Exact one-sided upper bound of Clopper and Pearson (1934) on the false-alarm rate, in (0, 1].

    It presumes a threshold chosen without these images. For max_fpr, whose threshold lies just above one of their
    scores, it holds all the same where scores do not tie: the share of good parts above the (k+1)-th highest of n
    scores is distributed as Beta(k+1, n-k) (Wilks 1941), whose quantile is this bound. For other policies it is a guide.
    """
    if alarms == n_normal:
        return 1.0
    if alarms == 0:  # the rate p at which (1 - p) ** n_normal is 1 - confidence
        return -math.expm1(math.log1p(-confidence) / n_normal)
    return float(special.betaincinv(alarms + 1, n_normal - alarms, confidence))


def images_needed(rate: float, confidence: float = 0.95) -> int | None:
    """The fewest good images that, without one alarm, bound the false-alarm rate by ``rate``; None where no number does.

    >>> images_needed(0.01)
    299
    """
    if rate <= 0:
        return None
    about = math.log1p(-confidence) / math.log1p(-rate)
    if not math.isfinite(about):
        return None
    rounded = max(1, round(about))
    fewest = (n for n in (rounded - 1, rounded, rounded + 1) if n > 0 and false_alarm_bound(0, n, confidence) <= rate)
    return next(fewest, rounded)


def describe(threshold: Threshold) -> str:
    """Say in one sentence what the threshold costs in false alarms and misses, and what of it is promised."""
    name = threshold.policy if threshold.requested is None else f"{threshold.policy} {threshold.requested:g}"
    if threshold.false_alarm_rate is None or threshold.false_alarm_bound is None:
        return f"{name}: no good validation images, so the false-alarm rate is not known"
    raised = "image raises" if threshold.n_normal == 1 else "images raise"
    missed = ""
    if threshold.n_anomalous:
        missed = f", {threshold.misses} of {threshold.n_anomalous} anomalous {'does' if threshold.misses == 1 else 'do'} not"
    return (
        f"{name}: {threshold.false_alarms} of {threshold.n_normal} good validation {raised} an alarm "
        f"({100 * threshold.false_alarm_rate:.1f} %, at most {percent_up(threshold.false_alarm_bound)} % "
        f"with {100 * threshold.confidence:g} % confidence){missed}{_promise(threshold)}"
    )


def percent_up(bound: float) -> str:
    """A bound in per cent with one digit, rounded up, or a sentence would promise too much."""
    return f"{math.ceil(1000 * bound) / 10:.1f}"


def _promise(threshold: Threshold) -> str:
    """The end of the sentence: whether the rate that was asked for can be relied on, and what that takes."""
    if threshold.promised is None or threshold.requested is None:
        return ""
    rate = f"{100 * threshold.requested:g} %"
    if threshold.promised:
        return f"; {rate} is promised"
    if threshold.needed is None:
        return f"; {rate} cannot be promised"
    if threshold.n_normal >= threshold.needed:
        return f"; {rate} is not promised, strict=true would"
    return f"; {rate} is not promised, that takes {threshold.needed} good images without an alarm"


def _check_promise(rate: float, n_normal: int, confidence: float) -> None:
    best = false_alarm_bound(0, n_normal, confidence)
    if best <= rate:
        return
    raise JobError(
        f"threshold.strict: at most {100 * rate:g} % false alarms with {100 * confidence:g} % confidence takes "
        f"{images_needed(rate, confidence) or 'more'} good validation images without an alarm, got {n_normal}, which promise "
        f"{percent_up(best)} % at best; add good images, set value to {math.ceil(1e4 * best) / 1e4:g}, or strict to false"
    )


def _cut(policy: str, normal: Floats, anomalous: Floats, value: float | None, promised: float | None) -> float:
    """The threshold of a policy that is possible; ``promised`` is the confidence of a strict max_fpr."""
    if policy == "max_f1":
        return cuts.best_f1(normal, anomalous)
    if policy == "defect_ratio":
        scores = np.concatenate((normal, anomalous))
        return cuts.nearest_share(scores, anomalous.size / scores.size if value is None else value)
    given = math.nan if value is None else value  # the other policies have one, or were refused
    if policy == "miss_cost":
        return cuts.least_cost(normal, anomalous, given)
    if policy == "max_fpr":
        return cuts.lowest_passing(normal, _allowed(given, normal.size, promised), anomalous)
    return float(given)


def _allowed(rate: float, n_normal: int, promised: float | None) -> int:
    """How many good images may raise an alarm: by their share, or by the bound with this confidence."""
    if promised is None:
        return cuts.allowed_alarms(rate, n_normal)
    return bisect.bisect_right(range(n_normal), rate, key=lambda k: false_alarm_bound(k, n_normal, promised)) - 1
