from __future__ import annotations

import os
from pathlib import Path

import pytest

from adjobs.config.settings import Settings
from adjobs.errors import QueueError, ServerError
from adjobs.queue import service, tokens
from adjobs.queue.dispatcher import Limits
from adjobs.queue.service import serve
from adjobs.queue.store import JobStore
from adjobs.web.door import Door


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.from_env({"ADJOBS_HOME": str(tmp_path / "home"), "RAY_API_SERVER_ADDRESS": "http://127.0.0.1:1"})


@pytest.mark.parametrize("token", ["", "guess"])
def test_serve_token_file_without_a_token_is_refused(tmp_path, token):
    """It would let everybody in, as an administrator."""
    path = tmp_path / "token"
    path.write_text(token)
    env = {"RAY_API_SERVER_ADDRESS": "http://127.0.0.1:1", "ADJOBS_QUEUE_TOKEN_PATH": str(path)}
    with pytest.raises(QueueError, match=f"token: holds a token of {len(token)} characters, 32 are needed"):
        serve(Settings.from_env({"ADJOBS_HOME": str(tmp_path / "home"), **env}), Door("127.0.0.1", 0), Limits(1))


def test_serve_certificate_that_is_none_is_one_line(settings, tmp_path):
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_text("no certificate")
    key.write_text("no key")
    with pytest.raises(
        ServerError, match=r"^--tls-cert .*cert.pem, --tls-key .*key.pem: cannot be used \(.*\); give a certificate"
    ):
        serve(settings, Door("127.0.0.1", 0, str(cert), str(key)), Limits(1))
    with pytest.raises(ServerError, match="belong together; give both or none"):
        serve(settings, Door("127.0.0.1", 0, str(cert)), Limits(1))


def test_local_token_of_an_owner_without_a_name_is_registered(tmp_path, monkeypatch):
    """As in a container that runs under a number of its own."""
    path = tmp_path / "token"
    path.write_text("t" * 40)

    def owner(self: Path) -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr(Path, "owner", owner)
    store = JobStore(f"sqlite:///{tmp_path / 'queue.db'}")
    service._register_local_token(store, path)
    with store.reading() as connection:
        assert tokens.identify(connection, "t" * 40) == (f"uid-{os.getuid()}", tokens.Role.ADMIN)
    store.close()
