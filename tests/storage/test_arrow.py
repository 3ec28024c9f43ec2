"""The file system for Ray, and Parquet files."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyarrow.parquet import ParquetFile

from adjobs.storage.arrow import arrow_filesystem, write_parquet


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


def test_write_parquet_writes_groups_and_leaves_nulls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adjobs.storage.arrow.ROW_GROUP", 3)
    rows = [{"name": str(i), "boxes": [[i, 1, 2, 3]], "more": 1} if i % 2 else {"name": str(i), "score": i} for i in range(7)]
    write_parquet(tmp_path / "a", iter(rows), {"name": "string", "score": "double", "boxes": "boxes"})
    file = ParquetFile(tmp_path / "a")
    assert file.num_row_groups == 3
    table = file.read().to_pylist()
    assert table[:2] == [{"name": "0", "score": 0.0, "boxes": None}, {"name": "1", "score": None, "boxes": [[1, 1, 2, 3]]}]
    assert len(table) == 7
    write_parquet(tmp_path / "b", [], {"name": "string"})
    assert ParquetFile(tmp_path / "b").read().num_rows == 0
