"""Checks of the arguments of all metrics, so that each refuses the same faults in the same words."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


def check_binary(values: ArrayLike, name: str) -> Bools:
    """Check labels or decisions: ``(N,)``, each 0 or 1. Returns them as bool.

    Raises:
        ValueError: another number of dimensions, or a value that is neither 0 nor 1.
    """
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"{name}: got shape {array.shape}, need one dimension, one value per image")
    invalid = array[~np.isin(array, (0, 1))]
    if invalid.size:
        raise ValueError(f"{name}: got {invalid[0]}, allowed are 0 and 1")
    return array.astype(bool)


def check_image_scores(labels: ArrayLike, scores: ArrayLike) -> tuple[Bools, Floats]:
    """Check labels and scores of images, ``(N,)`` each.

    Raises:
        ValueError: the lengths differ, a label is neither 0 nor 1, or a score is NaN or infinite.
    """
    truth = check_binary(labels, "labels")
    values = np.asarray(scores, dtype=np.float64)
    _same_shape("labels", truth, "scores", values)
    _finite("scores", values)
    return truth, values


def check_image_decisions(labels: ArrayLike, decisions: ArrayLike) -> tuple[Bools, Bools]:
    """Check labels and decisions of images, ``(N,)`` each, all 0 or 1; raises ValueError otherwise."""
    truth, alarms = check_binary(labels, "labels"), check_binary(decisions, "decisions")
    _same_shape("labels", truth, "decisions", alarms)
    return truth, alarms


def check_pixel_scores(maps: ArrayLike, masks: ArrayLike) -> tuple[NDArray[Any], Bools]:
    """Check anomaly maps and their masks, ``(N, H, W)`` each.

    Returns:
        The maps in float32 or float64 (a 16-bit map becomes float32, which holds each of its values), and the masks. A 32-bit
        map is not copied: in float64 all pixels of a data set would take twice the memory.

    Raises:
        ValueError: wrong number of dimensions, shapes that differ, maps that are not floating point, masks that are not
            bool, or a score that is NaN or infinite.
    """
    scores, truth = np.asarray(maps), np.asarray(masks)
    if scores.ndim != 3:
        raise ValueError(f"maps: got shape {scores.shape}, need (images, height, width)")
    _same_shape("maps", scores, "masks", truth)
    if not np.issubdtype(scores.dtype, np.floating):
        raise ValueError(f"maps: got {scores.dtype}, need floating-point scores")
    if truth.dtype != np.bool_:
        raise ValueError(f"masks: got {truth.dtype}, need bool, True on defect pixels")
    _finite("maps", scores)
    return scores.astype(np.result_type(scores.dtype, np.float32), copy=False), truth


def _same_shape(name: str, array: NDArray[Any], other_name: str, other: NDArray[Any]) -> None:
    if array.shape != other.shape:
        raise ValueError(f"{name} and {other_name}: got shapes {array.shape} and {other.shape}, which must be the same")


def _finite(name: str, values: NDArray[Any]) -> None:
    # NaN survives min and max, so that valid input needs no mask of its own size.
    if values.size and not (np.isfinite(values.min()) and np.isfinite(values.max())):
        invalid = np.argwhere(~np.isfinite(values))
        first = tuple(int(index) for index in invalid[0])
        raise ValueError(
            f"{name}: {len(invalid)} of {values.size} values are NaN or infinite, the first at index {first}; "
            "every score must be finite"
        )
