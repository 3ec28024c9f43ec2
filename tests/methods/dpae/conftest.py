"""Images to train on."""

from __future__ import annotations

import pytest
import torch

from adjobs.data.batches import TrainingData
from tests.helpers.drawing import draw_folder
from tests.helpers.tiny import drawn_data


@pytest.fixture(scope="package")
def data(tmp_path_factory) -> TrainingData:
    root = tmp_path_factory.mktemp("drawn")
    return drawn_data(draw_folder(root / "d", 24, 4), root / "cache")[1]


@pytest.fixture(scope="package")
def normal_images(data) -> torch.Tensor:
    """All 24 normal images of the data."""
    return next(data.normal(24)).images
