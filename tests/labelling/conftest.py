from __future__ import annotations

import pytest

from adjobs.labelling import client as client_module
from adjobs.labelling import project as project_module
from adjobs.labelling.client import LabelStudioClient
from tests.helpers.label_studio import KEY, label_studio


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
