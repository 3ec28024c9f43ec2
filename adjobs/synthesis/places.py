"""Measure whether places are best compared with the same place of normal images, or with any.

A part in any pose has its edge now here, now there: statistics of a place are then blurred, and a defect hides in them. What
counts is which comparison shows defects better, so that is measured, on defects simulated on held-out normal images: each image
is cut into 16 × 16 places, described by grey level, contrast and edges, and compared with the others' descriptions of the same
place (their mean and covariance), and with the most similar description of any place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from adjobs.data.places import Places
from adjobs.metrics.ranking import average_precision
from adjobs.nn.gaussian_stats import GaussianStats, Moments, whitening_matrices
from adjobs.nn.neighbours import nearest_neighbours
from adjobs.synthesis.rectangles import noise_rectangle_masks

SIDE = 128
"""Side of the images in pixels."""

CELL = 8  # pixels per side of a place
FOLDS = 3  # each image is held out once
BANK = 2000  # descriptions of any place that are searched, drawn at random
SHRINKAGE = 0.01
RECTANGLES = 2  # at most, in an image
OPACITIES = (0.3, 0.6)  # of simulated defects: what covers everything is seen by either comparison …
MISPLACED = 1.0  # … except what is normal elsewhere, such as background where a part is missing

Compare = Callable[[Tensor], Tensor]  # descriptions ``(N, h, w, d)`` to distances ``(N, h, w)``


def compare_places(images: Tensor, generator: Generator) -> Places:
    """Measure it on normal images.

    Args:
        images: ``(N, 3, 128, 128)`` in [0, 1], on the CPU, N ≥ 3.
        generator: draws folds, defects and the descriptions that are searched.
    """
    is_grey = bool((images == images[:, :1]).all())
    describe = _describe_grey if is_grey else _describe_colour
    order = torch.randperm(len(images), generator=generator)
    folds = [order[start::FOLDS] for start in range(FOLDS)]
    truth: dict[int, list[Tensor]] = {}
    distances: dict[tuple[str, int], list[Tensor]] = {}
    for number, held in enumerate(folds):
        fitted = describe(images[torch.cat([fold for other, fold in enumerate(folds) if other != number])])
        comparisons = {"place": _same_place(fitted), "neighbour": _any_place(fitted, generator)}
        for kind, (defective, masks) in enumerate(_simulate(images[held], generator)):
            descriptions = describe(defective)
            truth.setdefault(kind, []).append(F.avg_pool2d(masks.float(), CELL)[:, 0].flatten() > 0.5)
            for name, compare in comparisons.items():
                distances.setdefault((name, kind), []).append(compare(descriptions).flatten())

    def precision(name: str) -> float:
        values = [average_precision(torch.cat(labels), torch.cat(distances[name, kind])) for kind, labels in truth.items()]
        defined = [value for value in values if value is not None]
        return sum(defined) / max(1, len(defined))

    return Places(precision("place"), precision("neighbour"), len(images))


def _simulate(images: Tensor, generator: Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """The images with rectangles of each kind and opacity, and the masks ``(N, 1, H, W)`` bool."""
    elsewhere = images[torch.randperm(len(images), generator=generator)]
    elsewhere = elsewhere.roll((SIDE // 3, SIDE // 4), (2, 3)).flip(3)  # another place, mirrored
    noise = torch.rand((len(images), 1, SIDE, SIDE), generator=generator).expand_as(images)
    kinds = [(source, opacity) for source in (noise, elsewhere, 0.3 * images, 0.7 + 0.3 * images) for opacity in OPACITIES]
    for source, opacity in [*kinds, (elsewhere, MISPLACED)]:
        masks = noise_rectangle_masks(images, generator, max_count=RECTANGLES)
        yield torch.where(masks, torch.lerp(images, source, opacity), images), masks


def _describe_grey(images: Tensor) -> Tensor:
    return _describe(images[:, :1], images[:, :1])


def _describe_colour(images: Tensor) -> Tensor:
    return _describe(images.mean(1, keepdim=True), images)


def _describe(grey: Tensor, levels: Tensor) -> Tensor:
    """Descriptions ``(N, h, w, d)`` of places: mean levels, contrast and edges by direction, beside those of the surroundings."""
    across = F.pad(grey[..., 2:] - grey[..., :-2], (1, 1))
    down = F.pad(grey[..., 2:, :] - grey[..., :-2, :], (0, 0, 1, 1))
    strength = torch.hypot(across, down)
    # Cosine and sine of twice the edge's angle: an edge is the same from either side.
    squared = strength.square().clamp_min(1e-12)
    cosine, sine = (across.square() - down.square()) / squared, 2 * across * down / squared
    edges = [strength, *(strength * direction.clamp_min(0) for direction in (cosine, -cosine, sine, -sine))]
    fine = (grey - F.avg_pool2d(grey, 5, 1, 2, count_include_pad=False)).abs()
    bright = (grey - F.avg_pool2d(grey, 9, 1, 4, count_include_pad=False)).clamp_min(0)
    means = F.avg_pool2d(torch.cat([levels, *edges, fine, bright, grey.square(), grey], 1), CELL)
    count = levels.shape[1]
    contrast = (means[:, -2:-1] - means[:, -1:].square()).clamp_min(0).sqrt()
    own = torch.cat([means[:, :count], (torch.cat([means[:, count:-2], contrast], 1) + 1e-3).log()], 1)
    return torch.cat([own, F.avg_pool2d(own, 3, 1, 1, count_include_pad=False)], 1).permute(0, 2, 3, 1)


def _same_place(fitted: Tensor) -> Compare:
    """Mahalanobis distance from the descriptions of the same place."""
    moments = Moments()
    moments.add(fitted)
    stats = GaussianStats(fitted.shape[-1], fitted.shape[1:3])
    stats.fit(moments, SHRINKAGE)
    return stats


def _any_place(fitted: Tensor, generator: Generator) -> Compare:
    """Distance from the nearest description of any place, in units of their covariance."""
    vectors = fitted.flatten(0, 2)
    moments = Moments()
    moments.add(vectors)
    mean, covariance = moments.result()
    whitening = whitening_matrices(covariance, SHRINKAGE)[0]
    whitened = (vectors - mean.float()) @ whitening.T
    bank = whitened[torch.randperm(len(whitened), generator=generator)[:BANK]]

    def distance(descriptions: Tensor) -> Tensor:
        queries = (descriptions.flatten(0, 2) - mean.float()) @ whitening.T
        return nearest_neighbours(queries, bank, 1).distances.view(descriptions.shape[:3])

    return distance
