from __future__ import annotations

import numpy as np
import pytest

from adjobs.config.settings import Settings
from adjobs.labelling import candidates as candidates_module
from adjobs.labelling import client as client_module
from adjobs.labelling import project as project_module
from adjobs.labelling.client import LabelStudioClient
from adjobs.labelling.images import KnownImages
from adjobs.labelling.model import RankingModel
from adjobs.labelling.suggest import SuggestOptions, SuggestResult, suggest
from tests.helpers.detectors import brightness_detector
from tests.helpers.label_studio import KEY, label_studio


@pytest.fixture
def settings(tmp_path):
    return Settings.from_env({"ADJOBS_HOME": str(tmp_path / "home")})


@pytest.fixture
def run(monkeypatch, settings, tmp_path):
    """Suggest images of a folder with a detector whose threshold is 0.8."""

    def run_suggest(known: KnownImages | None = None, validation=(), method=None, gives_map=True, **options) -> SuggestResult:
        detector = brightness_detector(method=method, gives_map=gives_map, pixel=0.5 if gives_map else None)
        ranking = RankingModel("models:/line/3", detector, np.array(validation, dtype=float), known or KnownImages())
        monkeypatch.setattr(candidates_module, "load_model", lambda model, settings: ranking)
        return suggest("models:/line@champion", [tmp_path / "images"], settings, SuggestOptions(**options))

    return run_suggest


@pytest.fixture
def server(monkeypatch):
    """A small Label Studio; what is repeated is repeated at once."""
    for module in (client_module, project_module):
        monkeypatch.setattr(module, "WAITS", (0, 0))
    with label_studio() as running:
        yield running


@pytest.fixture
def client(server):
    return LabelStudioClient(server.url, KEY)
