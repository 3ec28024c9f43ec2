"""The file system through which Ray writes: the only user of pyarrow, which is imported for S3 alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

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
