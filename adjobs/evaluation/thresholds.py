"""The decision thresholds of a run, chosen on its validation scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from adjobs.metrics.pixel_threshold import PixelThreshold, choose_pixel_threshold, default_pixel_policy
from adjobs.metrics.policies import ThresholdPolicy
from adjobs.metrics.threshold import Threshold, choose_threshold
from adjobs.types import ImageScores


@dataclass(frozen=True)
class Thresholds:
    """The threshold for images, and the one for pixels; None for methods without anomaly maps."""

    image: Threshold
    pixel: PixelThreshold | None = None

    @property
    def pixel_value(self) -> float | None:
        """The value of the threshold for pixels."""
        return None if self.pixel is None else self.pixel.value

    def to_dict(self) -> dict[str, dict[str, Any] | None]:
        """Ready for JSON: ``image`` and ``pixel``."""
        return {"image": self.image.to_dict(), "pixel": None if self.pixel is None else self.pixel.to_dict()}


def choose_thresholds(image: ThresholdPolicy, pixel: ThresholdPolicy | None, val: ImageScores) -> Thresholds:
    """Choose both thresholds.

    Args:
        image: policy for images.
        pixel: policy for pixels; None for the default: by the masks if they are known and hold a defect, else by the normal
            images.
        val: scores of the validation split.

    Raises:
        JobError: a policy cannot work on these images.
    """
    threshold = choose_threshold(image, val.labels, val.score)
    if val.anomaly_maps is None:
        return Thresholds(threshold)
    masks = val.complete_masks
    if pixel is None:
        pixel = default_pixel_policy(masks is not None and bool(masks.any()), image.confidence)
    return Thresholds(threshold, choose_pixel_threshold(pixel, val.anomaly_maps, masks, val.labels))
