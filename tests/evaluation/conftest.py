"""Predictions for a small data set in the layout of MVTec LOCO."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adjobs.data.dataset import Dataset
from adjobs.data.formats.loco import read_defects
from adjobs.data.open import open_dataset
from adjobs.types import ImageScores
from tests.helpers.drawing import draw_loco


@pytest.fixture(scope="package")
def loco(tmp_path_factory) -> Dataset:
    return open_dataset(str(draw_loco(tmp_path_factory.mktemp("loco") / "parts")), cache=Path("unused"))


@pytest.fixture(scope="package")
def loco_scores(loco) -> ImageScores:
    """Random maps for the test split, brighter on the first layer of each mask."""
    rng, size = np.random.default_rng(0), 32
    samples = [sample for sample in loco.samples if sample.published_split == "test"]
    maps = rng.random((len(samples), size, size), dtype=np.float32)
    masks = np.zeros(maps.shape, dtype=bool)
    for i, sample in enumerate(samples):
        if sample.mask:
            defects = read_defects(sample.mask)
            masks[i] = np.any([defect.pixels for defect in defects], axis=0)
            maps[i][defects[0].pixels] += 0.9
    return ImageScores(
        ids=tuple(sample.id for sample in samples),
        labels=np.array([int(sample.label == "anomalous") for sample in samples]),
        score=maps.max((1, 2)).astype(np.float64),
        defects=tuple(sample.defect for sample in samples),
        anomaly_maps=maps,
        masks=masks,
    )
