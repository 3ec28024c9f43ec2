"""From anomaly maps to defect masks: a threshold for pixels, chosen on validation images.

A pixel is predicted defective when ``score >= threshold``. That says where a defect is, not whether there is one: the latter is
decided by the image's score and its own threshold.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adjobs.errors import JobError, choices, shown
from adjobs.metrics import CONFIDENCE, cuts
from adjobs.metrics.inputs import Bools, check_binary, check_pixel_scores
from adjobs.metrics.policies import DEFAULT_PIXEL_MAX_FPR, POLICIES, Policy, ThresholdPolicy
from adjobs.metrics.ranges import Confidence, Count, Share
from adjobs.metrics.threshold import check_confidence, check_finite, false_alarm_bound, percent_rounded_up


@dataclass(frozen=True)
class PixelThreshold:
    """A threshold for pixels and where it came from.

    Attributes:
        policy: one of `POLICIES`.
        value: a pixel whose score reaches it is predicted defective.
        requested: the policy's value, or None.
        n_normal: normal validation images.
        n_anomalous: anomalous validation images.
        false_alarm_rate: share of the pixels of normal images that are predicted defective, or None without normal images.
        false_alarm_bound: None. The pixels of an image are not independent draws, so their share has no binomial bound.
        image_false_alarms: normal images with a pixel that is predicted defective.
        image_false_alarm_rate: their share, or None without normal images.
        image_false_alarm_bound: the rate of future normal images with such a pixel is at most this with probability
            `confidence`; None without normal images. Exact for a threshold chosen without these images (policy fixed),
            otherwise a guide.
        f1: of the pixels at the threshold, in [0, 1]; None if the masks are unknown or hold no defect pixel.
        confidence: of the bound, in (0, 1).
    """

    policy: Policy
    value: float
    requested: float | None
    n_normal: Count
    n_anomalous: Count
    false_alarm_rate: Share | None
    image_false_alarms: Count
    image_false_alarm_rate: Share | None
    image_false_alarm_bound: Share | None
    f1: Share | None
    confidence: Confidence
    false_alarm_bound: Share | None = None

    def to_dict(self) -> dict[str, str | int | float | None]:
        """All attributes, ready for JSON."""
        return asdict(self)

    def describe(self) -> str:
        """Say in one sentence how much of normal images is predicted defective."""
        name = ThresholdPolicy(self.policy, self.requested)
        f1 = "" if self.f1 is None else f", pixel F1 {self.f1:.3f}"
        if self.false_alarm_rate is None or self.image_false_alarm_rate is None or self.image_false_alarm_bound is None:
            return f"{name}: no normal validation images, so the false-alarm rate of their pixels is unknown{f1}"
        images = "image has" if self.n_normal == 1 else "images have"
        return (
            f"{name}: {100 * self.false_alarm_rate:.3g} % of the pixels of normal validation images are false alarms (without a "
            f"bound: pixels of an image depend on each other); {self.image_false_alarms} of {self.n_normal} normal {images} such "
            f"a pixel ({100 * self.image_false_alarm_rate:.1f} %, at most {percent_rounded_up(self.image_false_alarm_bound)} % "
            f"with {100 * self.confidence:g} % confidence){f1}"
        )


def default_pixel_policy(has_masks: bool, confidence: float = CONFIDENCE) -> ThresholdPolicy:
    """The policy of a job that names none: by the validation masks if all are known, else by its normal images."""
    name, value = ("max_f1", None) if has_masks else ("max_fpr", DEFAULT_PIXEL_MAX_FPR)
    return ThresholdPolicy(name, value, confidence)


def check_pixels_possible(policy: ThresholdPolicy, n_normal: int, has_masks: bool) -> None:
    """Refuse a policy that cannot work on such validation images; a job checks this before it trains.

    Args:
        policy: how to choose.
        n_normal: normal validation images.
        has_masks: whether validation has anomalies, and all of them have masks.

    Raises:
        JobError: unknown policy, a value it does not take, or images or masks that it needs are missing.
    """
    name = policy.name
    if name not in POLICIES:
        raise JobError(f"pixel_threshold.policy: unknown policy {shown(name)}; {choices(name, POLICIES)}")
    check_confidence(policy.confidence)
    fault = policy.find_fault()
    if fault:
        raise JobError(f"pixel_threshold.{fault}")
    if not has_masks and policy.needs_anomalies:
        raise JobError(
            f"pixel_threshold.policy {name}: needs a mask for each anomalous validation image, and at least one; "
            "use max_fpr, or add masks"
        )
    if name == "max_fpr" and not n_normal:
        advice = "use fixed, or add normal images"
        raise JobError(f"pixel_threshold.policy {name}: validation has 0 normal images, needs at least 1; {advice}")


def choose_pixel_threshold(
    policy: ThresholdPolicy, maps: ArrayLike, masks: ArrayLike | None, labels: ArrayLike
) -> PixelThreshold:
    """Choose the threshold for pixels by a policy.

    Args:
        policy: how to choose. max_f1, miss_cost and defect_ratio count pixels of all images, max_fpr those of normal images.
        maps: ``(N, H, W)`` finite floating-point scores of the validation images.
        masks: ``(N, H, W)`` bool, True on defect pixels; None if they are unknown.
        labels: ``(N,)``, 0 or 1.

    Raises:
        JobError: unknown policy, a value it does not take, or validation images that it cannot work with.
        ValueError: maps, masks or labels that do not fit together.
    """
    raw = np.asarray(maps)
    scores, defects = check_pixel_scores(raw, np.broadcast_to(np.False_, raw.shape) if masks is None else masks)
    normal = ~check_binary(labels, "labels")
    if len(normal) != len(scores):
        raise ValueError(f"labels and maps: got {len(normal)} and {len(scores)}, which must be the same")
    n_normal = int(normal.sum())
    check_pixels_possible(policy, n_normal, bool(defects.any()))
    threshold = _cut(policy, scores, defects, normal)
    check_finite(threshold, "pixel_threshold", policy)
    pixels, images = _count_alarms(scores[normal] if n_normal < len(normal) else scores, threshold)
    return PixelThreshold(
        policy=cast(Policy, policy.name),  # checked above
        value=threshold,
        requested=policy.value,
        n_normal=n_normal,
        n_anomalous=len(normal) - n_normal,
        false_alarm_rate=pixels / (n_normal * scores[0].size) if n_normal else None,
        image_false_alarms=images,
        image_false_alarm_rate=images / n_normal if n_normal else None,
        image_false_alarm_bound=false_alarm_bound(images, n_normal, policy.confidence) if n_normal else None,
        f1=_f1(scores, defects, threshold),
        confidence=policy.confidence,
    )


def _cut(policy: ThresholdPolicy, scores: NDArray[Any], masks: Bools, normal: Bools) -> float:
    """The threshold of a policy that is possible on these maps."""
    if policy.name == "max_f1":
        return cuts.best_f1(scores[~masks], scores[masks])
    if policy.name == "defect_ratio":
        return cuts.nearest_share(scores.flatten(), float(masks.mean()) if policy.value is None else policy.value)
    value = math.nan if policy.value is None else policy.value  # the other policies have one, or were refused
    if policy.name == "miss_cost":
        return cuts.least_cost(scores[~masks], scores[masks], value)
    if policy.name == "max_fpr":
        pixels = scores[normal].ravel()
        return cuts.lowest_passing(pixels, cuts.allowed_alarms(value, pixels.size))
    return float(value)


def _count_alarms(scores: NDArray[Any], threshold: float) -> tuple[int, int]:
    """Pixels that reach the threshold, and images with one; image by image, since all decisions take a quarter of all maps."""
    counts = [int((anomaly_map >= threshold).sum()) for anomaly_map in scores]
    return sum(counts), sum(count > 0 for count in counts)


def _f1(scores: NDArray[Any], masks: Bools, threshold: float) -> float | None:
    n_defect = int(masks.sum())
    if not n_defect:
        return None
    true_positives = int((scores[masks] >= threshold).sum())
    return 2 * true_positives / (n_defect + _count_alarms(scores, threshold)[0])
