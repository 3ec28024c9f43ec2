from __future__ import annotations

from pathlib import Path

import pytest

from adjobs.config.settings import Settings
from adjobs.errors import QueueError
from adjobs.queue.service import serve


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
        serve(Settings.from_env({"ADJOBS_HOME": str(tmp_path / "home"), **env}), "127.0.0.1", 0, 1, None, None, None)


def test_serve_certificate_that_is_none_is_one_line(settings, tmp_path):
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_text("no certificate")
    key.write_text("no key")
    with pytest.raises(
        QueueError, match=r"^--tls-cert .*cert.pem, --tls-key .*key.pem: cannot be used \(.*\); give a certificate"
    ):
        serve(settings, "127.0.0.1", 0, 1, None, str(cert), str(key))
    with pytest.raises(QueueError, match="belong together; give both or none"):
        serve(settings, "127.0.0.1", 0, 1, None, str(cert), None)
