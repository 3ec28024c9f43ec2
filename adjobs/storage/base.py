"""What S3 and a folder have in common."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from adjobs.errors import StorageError, one_line

PART = ".part"  # suffix of a file that is still being written


class Entry(NamedTuple):
    """A stored object: its key in the store, bytes, and a tag that changes with the content."""

    key: str
    size: int
    etag: str


Entries = list[Entry]  # inside the stores the name `list` means their method


class Store(Protocol):
    """Every method raises StorageError.

    A prefix is a folder or one key: ``runs/1`` means ``runs/1`` and ``runs/1/...``, never ``runs/10``.
    """

    def put(self, local: Path, key: str) -> None:
        """Store a file."""

    def get(self, key: str, local: Path) -> None:
        """Fetch into a file, which appears whole or not at all."""

    def read(self, key: str) -> bytes:
        """Content of a small object."""

    def write(self, key: str, data: bytes) -> None:
        """Store a small object."""

    def exists(self, key: str) -> bool:
        """Whether the object is there; a missing bucket is an error."""

    def list(self, prefix: str = "") -> Entries:
        """Objects under a prefix, sorted by key; keys that end in a slash (folder marks) are left out."""

    def delete(self, prefix: str) -> None:
        """Delete everything under a prefix, which must not be empty; nothing there is no error."""

    def uri(self, key: str = "") -> str:
        """The address, as ``open_store`` takes it."""


def check_key(key: str) -> str:
    r"""Return a key that stays inside its folder on every system.

    Raises:
        StorageError: the key is empty or absolute, or has a backslash or an empty, ``.`` or ``..`` segment.

    >>> check_key("a/b.png")
    'a/b.png'
    """
    if "\\" in key or "\0" in key or any(segment in {"", ".", ".."} for segment in key.split("/")):
        raise StorageError(f"key {key!r} is refused: it must be a relative path without '..', '.', '\\' or empty segments")
    return key


@contextmanager
def disk(action: str, what: object) -> Iterator[None]:
    """Turn what the disk refuses into a StorageError."""
    try:
        yield
    except OSError as error:
        cause = error.strerror or one_line(error)
        raise StorageError(f"cannot {action} {what}: {cause}; check the path, its permissions and the free space") from error


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A file to write, which becomes ``path`` when all went well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{secrets.token_hex(8)}{PART}")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
