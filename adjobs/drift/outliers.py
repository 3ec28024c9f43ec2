"""Recent images that differ most from the reference, each with the value in which it does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adjobs.drift.descriptors import STATISTICS
from adjobs.drift.result import DifferentImage, number
from adjobs.drift.verdict import ImageTable
from adjobs.metrics.inputs import Floats

_NEIGHBOURS = 3
_RANGE = (0.025, 0.975)  # of the reference, that a reason names
_CLIP = 5.0


def most_different(reference: ImageTable, recent: ImageTable, names: Sequence[str], count: int) -> list[DifferentImage]:
    """The recent images with the most unusual score, simple statistic or features.

    Args:
        reference: of the reference images.
        recent: of the recent images.
        names: of the recent images.
        count: how many at most.
    """
    columns = [("score", "", reference.scores, recent.scores)]
    if reference.statistics is not None and recent.statistics is not None:
        columns += [
            (statistic.name, statistic.unit, old, new)
            for statistic, old, new in zip(STATISTICS, reference.statistics.T, recent.statistics.T, strict=True)
        ]
    if reference.features is not None and recent.features is not None and len(reference.features) > _NEIGHBOURS:
        columns.append(("distance of features", "", *_feature_distances(reference.features, recent.features)))
    distances = np.stack([_robust_distance(old, new) for _, _, old, new in columns])
    largest, which = distances.max(0), distances.argmax(0)
    chosen = np.argsort(-largest, kind="stable")[:count]
    return [
        DifferentImage(names[i], float(recent.scores[i]), float(largest[i]), _reason(columns[which[i]], int(i))) for i in chosen
    ]


def _reason(column: tuple[str, str, Floats, Floats], index: int) -> str:
    name, unit, old, new = column
    low, high = np.quantile(old, _RANGE)
    return f"{name} {number(new[index])}, reference {number(low)} to {number(high)}" + (f" {unit}" if unit else "")


def _robust_distance(reference: Floats, recent: Floats) -> Floats:
    """Distance from the reference's median in standard deviations, as its quartiles give them.

    Where these are equal, or nearly so, the standard deviation itself, or a thousandth of the median, stands for them.
    """
    low, centre, high = np.quantile(reference, (0.25, 0.5, 0.75))
    scale = max((high - low) / 1.349, 0.1 * float(reference.std()), 1e-3 * abs(float(centre)), 1e-6)
    distance: Floats = np.abs(recent - centre) / scale
    return distance


def _feature_distances(reference: Floats, recent: Floats) -> tuple[Floats, Floats]:
    """Mean distance of each image to its nearest reference images, of the reference images to the others."""
    from sklearn.neighbors import NearestNeighbors

    low, centre, high = np.quantile(reference, (0.25, 0.5, 0.75), axis=0)
    scale = (high - low) / 1.349
    varies = scale > 0
    old, new = (np.clip((values - centre)[:, varies] / scale[varies], -_CLIP, _CLIP) for values in (reference, recent))
    if not varies.any():
        return np.zeros(len(reference)), np.zeros(len(recent))
    neighbours = NearestNeighbors(n_neighbors=_NEIGHBOURS).fit(old)
    return neighbours.kneighbors()[0].mean(1), neighbours.kneighbors(new)[0].mean(1)
