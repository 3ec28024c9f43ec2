"""The file system for Ray."""

from __future__ import annotations

from pathlib import Path

import pytest

from adjobs.storage.arrow import arrow_filesystem


def test_arrow_filesystem_local_folder_is_created(tmp_path: Path) -> None:
    folder = str(tmp_path / "runs")
    assert arrow_filesystem(folder) == (folder, None)
    assert Path(folder).is_dir()


def test_arrow_filesystem_s3_uses_the_endpoint_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    fs = pytest.importorskip("pyarrow.fs")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    path, filesystem = arrow_filesystem("s3://bucket/runs")
    assert path == "bucket/runs"
    assert filesystem.equals(fs.S3FileSystem(endpoint_override="http://127.0.0.1:9", region="us-east-1"))
