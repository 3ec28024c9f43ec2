"""What boxes say of the pixels in them: how much is defective, and how SemiREST labels the tokens."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import torch
from runs import Splits, format_of
from training import BenchmarkData

from adjobs.data.labels.masks import ANOMALOUS, NORMAL, UNKNOWN, coarsen
from adjobs.methods.semirest.config import Config
from adjobs.methods.semirest.labels import UNDECIDED, token_labels


def load_masks(data: BenchmarkData, size: int, ids: Collection[str]) -> tuple[np.ndarray, np.ndarray]:
    """Label masks of the samples that have one, and the same coarsened to boxes, both ``(N, size, size)``."""
    cache = data.open_cache(size)
    indices = [cache.label_index_of[sample.id] for sample in data.dataset.samples if sample.mask and sample.id in ids]
    masks = np.stack([cache.labels[index] for index in indices])
    return masks, np.stack([coarsen(mask, "boxes", size) for mask in masks])


def filled_fraction(data: BenchmarkData, size: int, ids: Collection[str]) -> float:
    """Fraction of the pixels in boxes that are defective, in the images of these samples."""
    masks, coarse = load_masks(data, size, ids)
    return float((masks == ANOMALOUS).sum() / (coarse == UNKNOWN).sum())


def tokens_in_boxes(data: BenchmarkData, size: int, ids: Collection[str]) -> list[float]:
    """Fractions of the tokens with an unknown label under boxes that masks label anomalous, normal, and neither."""
    masks, coarse = load_masks(data, size, ids)
    defect, unknown = (torch.from_numpy(pixels)[:, None] for pixels in (masks == ANOMALOUS, coarse == UNKNOWN))
    config = Config(supervision="boxes")
    phase, empty = config.phases[-1], torch.zeros_like(defect)
    is_unknown = token_labels(empty, unknown, phase, config) == UNKNOWN
    labels = token_labels(defect, empty, phase, config)[is_unknown]
    return [float((labels == label).float().mean()) for label in (ANOMALOUS, NORMAL, UNDECIDED)]


def describe_labels(splits: Splits, size: int) -> list[str]:
    """How much of the boxes is defective, in pixels and in tokens."""
    name, first = format_of(splits), next(iter(splits.values()))
    all_images = filled_fraction(first, size, {sample.id for sample in first.dataset.samples})
    train = ", ".join(f"{filled_fraction(data, size, set(data.split.train)):.2f}" for data in splits.values())
    tokens = [tokens_in_boxes(data, size, set(data.split.train)) for data in splits.values()]
    fractions = ", ".join(f"{anomalous:.2f} / {normal:.2f} / {neither:.2f}" for anomalous, normal, neither in tokens)
    return [
        f"Defects fill {all_images:.2f} of their boxes in {name}, in the labelled training images {train}.",
        f"Of the tokens in these images' boxes masks label anomalous / normal / neither: {fractions}.",
    ]
