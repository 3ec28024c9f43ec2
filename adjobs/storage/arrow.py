"""Parquet files, and the file system through which Ray writes: the only user of pyarrow, which is imported where it is needed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem


def arrow_filesystem(uri: str) -> tuple[str, FileSystem | None]:
    """Path and pyarrow file system of a storage location.

    Keys come from each process's environment, never from the job.

    Args:
        uri: ``s3://bucket/prefix``, or a local folder, which is created.

    Returns:
        The path in the file system, and the file system; None is Ray's own for local paths.
    """
    if not uri.startswith("s3://"):
        Path(uri).mkdir(parents=True, exist_ok=True)
        return uri, None
    from pyarrow.fs import S3FileSystem

    endpoint, region = os.environ.get("AWS_ENDPOINT_URL"), os.environ.get("AWS_DEFAULT_REGION", "us-east-1")
    return uri.removeprefix("s3://"), S3FileSystem(endpoint_override=endpoint, region=region)


ROW_GROUP = 10_000
"""Rows of a Parquet file that are in memory at a time."""


def require_parquet() -> None:
    """Find out before long work whether Parquet files can be written.

    Raises:
        ModuleNotFoundError: pyarrow is not installed.
    """
    import pyarrow.parquet  # noqa: F401


def write_parquet(path: Path, rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str]) -> None:
    """Write rows as a Parquet file, a group at a time; what a row lacks is null.

    Args:
        path: of the file, which is replaced; the caller renames it.
        rows: values by column; others are left out.
        columns: type of each column, in their order: ``string``, ``double``, or ``boxes``, lists of lists of whole numbers.
    """
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    types = {"string": pa.string(), "double": pa.float64(), "boxes": pa.list_(pa.list_(pa.int32()))}
    schema = pa.schema([(name, types[kind]) for name, kind in columns.items()])
    with ParquetWriter(path, schema, compression="zstd") as writer:
        for group in _groups(rows):
            writer.write_table(pa.Table.from_pylist(group, schema=schema))


def _groups(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    iterator = iter(rows)
    while group := list(islice(iterator, ROW_GROUP)):
        yield group
