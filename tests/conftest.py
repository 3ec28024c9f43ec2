"""Drawn data sets for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.drawing import draw_folder, draw_mvtec


@pytest.fixture
def folder_root(tmp_path: Path) -> Path:
    """Twenty good and ten scratched squares with masks, in plain folders."""
    return draw_folder(tmp_path / "folder", 20, 10)


@pytest.fixture
def mvtec_root(tmp_path: Path) -> Path:
    """Fifteen good squares for training, five good and ten scratched ones with masks for testing, in MVTec AD's layout."""
    return draw_mvtec(tmp_path / "mvtec", 20, 10)
