"""From anomaly maps to marked pixels: a threshold for pixels, chosen on validation images.

A pixel is marked when ``map >= threshold``. It says where a defect is, not whether there is one: that is decided by the
image's score and its own threshold.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adjobs.errors import JobError, choices
from adjobs.metrics import cuts
from adjobs.metrics.inputs import Bools, binary, pixel_scores
from adjobs.metrics.policies import DEFAULT_PIXEL_MAX_FPR, POLICIES, needs_anomalies, wrong_value
from adjobs.metrics.threshold import check_confidence, false_alarm_bound, percent_up


@dataclass(frozen=True)
class PixelThreshold:
    """A threshold for pixels and where it came from.

    Attributes:
        policy: one of `POLICIES`.
        value: a pixel whose score reaches it is marked.
        requested: what the job asked for, or None.
        n_normal: good validation images.
        n_anomalous: anomalous validation images.
        false_alarm_rate: share of the pixels of good images that are marked, or None without good images.
        false_alarm_bound: None. The pixels of an image are no independent draws, so their share has no binomial bound.
        marked_images: good images with a marked pixel.
        marked_rate: their share, or None without good images.
        marked_bound: the rate of future good images with a marked pixel is at most this with probability `confidence`; None
            without good images. Exact for a threshold chosen without these images (policy fixed), otherwise a guide.
        f1: of the pixels at the threshold, in [0, 1]; None where the masks are not known or hold no defect pixel.
        confidence: of the bound, in (0, 1).
        scores_from: the part of the data set that the maps belong to.
    """

    policy: str
    value: float
    requested: float | None
    n_normal: int
    n_anomalous: int
    false_alarm_rate: float | None
    marked_images: int
    marked_rate: float | None
    marked_bound: float | None
    f1: float | None
    confidence: float
    false_alarm_bound: float | None = None
    scores_from: str = "val"

    def to_dict(self) -> dict[str, str | int | float | None]:
        """All attributes, ready for JSON."""
        return asdict(self)


def default_pixel_policy(has_masks: bool) -> tuple[str, float | None]:
    """Policy and value where a job names none: by the masks of validation where all are known, else by its good images."""
    return ("max_f1", None) if has_masks else ("max_fpr", DEFAULT_PIXEL_MAX_FPR)


def check_pixels_possible(policy: str, n_normal: int, has_masks: bool, *, value: float | None = None) -> None:
    """Refuse what cannot be chosen on such validation images; a job asks before it trains.

    Args:
        policy: one of `POLICIES`.
        n_normal: good validation images.
        has_masks: whether validation has anomalies, and all of them have masks.
        value: as for :func:`choose_pixels`.

    Raises:
        JobError: no such policy, a value it does not take, or images or masks that it needs are missing.
    """
    if policy not in POLICIES:
        raise JobError(f"pixel_threshold.policy {policy!r}: no such policy; {choices(policy, POLICIES)}")
    fault = wrong_value(policy, value)
    if fault:
        raise JobError(f"pixel_threshold.{fault}")
    if not has_masks and needs_anomalies(policy, value):
        raise JobError(
            f"pixel_threshold.policy {policy}: needs a mask for each anomaly of the validation part, and at least one; "
            "use max_fpr, or add masks"
        )
    if policy == "max_fpr" and not n_normal:
        raise JobError("pixel_threshold.policy max_fpr: validation has 0 good images, needs at least 1; use fixed, or add images")


def choose_pixels(
    policy: str,
    maps: ArrayLike,
    masks: ArrayLike | None,
    labels: ArrayLike,
    *,
    value: float | None = None,
    confidence: float = 0.95,
) -> PixelThreshold:
    """Choose the threshold for pixels that ``policy`` names.

    Args:
        policy: one of `POLICIES`. max_f1, miss_cost and defect_ratio count pixels of all images, max_fpr those of good images.
        maps: ``(N, H, W)`` finite floating-point scores of the validation images.
        masks: ``(N, H, W)`` bool, True on defect pixels; None where they are not known.
        labels: ``(N,)``, 0 or 1.
        value: as for :func:`adjobs.metrics.threshold.choose`, of pixels in place of images.
        confidence: of the bound on the rate of good images with a marked pixel, in (0, 1).

    Raises:
        JobError: no such policy, a value it does not take, or validation images that it cannot work with.
        ValueError: maps, masks or labels that do not fit together.
    """
    raw = np.asarray(maps)
    scores, known = pixel_scores(raw, np.broadcast_to(np.False_, raw.shape) if masks is None else masks)
    good = ~binary(labels, "labels")
    if len(good) != len(scores):
        raise ValueError(f"labels and maps: got {len(good)} and {len(scores)}, which must be the same")
    n_normal = int(good.sum())
    check_confidence(confidence)
    check_pixels_possible(policy, n_normal, bool(known.any()), value=value)
    threshold = _cut(policy, scores, known, good, value)
    marked, touched = _marked(scores[good] if n_normal < len(good) else scores, threshold)
    return PixelThreshold(
        policy=policy,
        value=threshold,
        requested=value,
        n_normal=n_normal,
        n_anomalous=len(good) - n_normal,
        false_alarm_rate=marked / (n_normal * scores[0].size) if n_normal else None,
        marked_images=touched,
        marked_rate=touched / n_normal if n_normal else None,
        marked_bound=false_alarm_bound(touched, n_normal, confidence) if n_normal else None,
        f1=_f1(scores, known, threshold),
        confidence=confidence,
    )


def describe_pixels(threshold: PixelThreshold) -> str:
    """Say in one sentence how much of good images is marked."""
    name = threshold.policy if threshold.requested is None else f"{threshold.policy} {threshold.requested:g}"
    reached = "" if threshold.f1 is None else f", pixel F1 {threshold.f1:.3f}"
    if threshold.false_alarm_rate is None or threshold.marked_rate is None or threshold.marked_bound is None:
        return f"{name}: no good validation images, so the share of their pixels that is marked is not known{reached}"
    images = "image has" if threshold.n_normal == 1 else "images have"
    return (
        f"{name}: {100 * threshold.false_alarm_rate:.3g} % of the pixels of good validation images are marked (without a bound: "
        f"pixels of an image depend on each other); {threshold.marked_images} of {threshold.n_normal} good {images} a marked "
        f"pixel ({100 * threshold.marked_rate:.1f} %, at most {percent_up(threshold.marked_bound)} % "
        f"with {100 * threshold.confidence:g} % confidence){reached}"
    )


def _cut(policy: str, scores: NDArray[Any], masks: Bools, good: Bools, value: float | None) -> float:
    """The threshold of a policy that is possible."""
    if policy == "max_f1":
        return cuts.best_f1(scores[~masks], scores[masks])
    if policy == "defect_ratio":
        return cuts.nearest_share(scores.flatten(), float(masks.mean()) if value is None else value)
    given = math.nan if value is None else value  # the other policies have one, or were refused
    if policy == "miss_cost":
        return cuts.least_cost(scores[~masks], scores[masks], given)
    if policy == "max_fpr":
        free = scores[good].ravel()
        return cuts.lowest_passing(free, cuts.allowed_alarms(given, free.size))
    return float(given)


def _marked(scores: NDArray[Any], threshold: float) -> tuple[int, int]:
    """Marked pixels, and images that have one; one image at a time, since all decisions would be a quarter of all maps."""
    counts = [int((map_ >= threshold).sum()) for map_ in scores]
    return sum(counts), sum(count > 0 for count in counts)


def _f1(scores: NDArray[Any], masks: Bools, threshold: float) -> float | None:
    n_defect = int(masks.sum())
    if not n_defect:
        return None
    found = int((scores[masks] >= threshold).sum())
    return 2 * found / (n_defect + _marked(scores, threshold)[0])
