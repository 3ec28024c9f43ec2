"""A run on drawn images, made once, with recent images beside it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from adjobs.config.settings import Settings
from tests.helpers.drawing import draw_folder
from tests.helpers.drift import draw_normal, folder_run
from tests.helpers.jobs import local_settings


class World(NamedTuple):
    settings: Settings
    run_id: str
    root: Path

    @property
    def data(self) -> Path:
        return self.root / "data"


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A run whose validation split has 40 normal images; folders "same" and "dark" of 50 recent images each."""
    root = tmp_path_factory.mktemp("drift")
    settings = local_settings(root)
    draw_folder(root / "data", 200, 8)
    draw_normal(root / "same", 50, seed=11)
    draw_normal(root / "dark", 50, seed=12, factor=0.9)
    return World(settings, folder_run(settings, root / "data", root / "temporary").run_id, root)


@pytest.fixture(autouse=True)
def without_features(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading the pretrained network takes seconds."""
    if not request.node.name.endswith("with_features"):
        monkeypatch.setattr("adjobs.drift.run.has_features", lambda: False)
