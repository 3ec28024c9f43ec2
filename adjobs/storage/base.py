"""The interface that S3 and a local folder share."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import file_digest
from pathlib import Path
from typing import NamedTuple, Protocol

from adjobs.errors import StorageError, one_line

_TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.tmp")  # of a file that is being written


class Entry(NamedTuple):
    """A stored object: its key in the store, its size in bytes, and a tag that changes with the content."""

    key: str
    size: int
    etag: str


Entries = list[Entry]  # inside the stores `list` is their method


class Store(Protocol):
    """Every method raises StorageError.

    A prefix is a folder or one key: ``runs/1`` means ``runs/1`` and ``runs/1/...``, never ``runs/10``.
    """

    def put(self, local: Path, key: str) -> None:
        """Store a file."""

    def get(self, key: str, local: Path) -> None:
        """Download into a file; it is replaced in one step."""

    def read(self, key: str) -> bytes:
        """Read a small object."""

    def write(self, key: str, data: bytes) -> None:
        """Store a small object."""

    def create(self, key: str, data: bytes) -> bool:
        """Store a small object unless the key exists: of several writers at once one succeeds.

        Returns:
            Whether the object now holds this data; True, too, if it held just this before, as after a repeated request.
        """

    def exists(self, key: str) -> bool:
        """Whether the object exists; a missing bucket is an error."""

    def list(self, prefix: str = "") -> Entries:
        """Objects under a prefix, sorted by key, without keys that end in a slash (folder markers)."""

    def delete(self, prefix: str) -> None:
        """Delete everything under a prefix, which must not be empty; no object is no error."""

    def uri(self, key: str = "") -> str:
        """The URI of a key, as ``open_store`` takes it."""


def check_key(key: str) -> str:
    r"""Return the key if it stays inside its folder on every operating system.

    Raises:
        StorageError: the key is empty or absolute, or has a backslash or an empty, ``.`` or ``..`` segment.

    >>> check_key("a/b.png")
    'a/b.png'
    """
    if "\\" in key or "\0" in key or any(segment in {"", ".", ".."} for segment in key.split("/")):
        raise StorageError(f"key {key!r} is refused: it must be a relative path without '..', '.', '\\' or empty segments")
    return key


@contextmanager
def disk_errors(action: str, target: object) -> Iterator[None]:
    """Turn errors of the file system into StorageError: 'cannot <action> <target>: <cause>'."""
    try:
        yield
    except OSError as error:
        cause = error.strerror or one_line(error)
        raise StorageError(f"cannot {action} {target}: {cause}; check the path, its permissions and the free space") from error


def is_temporary(path: Path) -> bool:
    """Whether a file is one of :func:`atomic_write` that is not complete."""
    return _TEMPORARY.fullmatch(path.name) is not None


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


@contextmanager
def temporary_file(path: Path) -> Iterator[Path]:
    """A temporary file in the folder of ``path``, deleted when the block ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary file in the folder of ``path``, which it replaces when the block ends without an error."""
    with temporary_file(path) as temporary:
        yield temporary
        temporary.replace(path)
