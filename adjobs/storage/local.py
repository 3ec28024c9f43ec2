"""A folder with the interface of S3."""

# ruff: noqa: D102 (documented in the Protocol)

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from adjobs.paths import expand_home
from adjobs.storage.base import Entries, Entry, atomic_write, check_key, disk_errors, is_temporary, temporary_file


class LocalStore:
    """Files under a root. They are written under a temporary name and renamed, so that no reader sees an incomplete one."""

    def __init__(self, root: Path) -> None:
        self.root = expand_home(root).absolute()

    def put(self, local: Path, key: str) -> None:
        with disk_errors(f"store {local} as", self.uri(key)), atomic_write(self._path(key)) as temporary:
            shutil.copyfile(local, temporary)

    def get(self, key: str, local: Path) -> None:
        with disk_errors("read", self.uri(key)), atomic_write(local) as temporary:
            shutil.copyfile(self._path(key), temporary)

    def read(self, key: str) -> bytes:
        with disk_errors("read", self.uri(key)):
            return self._path(key).read_bytes()

    def write(self, key: str, data: bytes) -> None:
        with disk_errors("store", self.uri(key)), atomic_write(self._path(key)) as temporary:
            temporary.write_bytes(data)

    def create(self, key: str, data: bytes) -> bool:
        path = self._path(key)
        with disk_errors("store", self.uri(key)), temporary_file(path) as temporary:
            temporary.write_bytes(data)
            try:
                os.link(temporary, path)  # unlike a rename, it does not replace
            except FileExistsError:
                return path.read_bytes() == data
            return True

    def exists(self, key: str) -> bool:
        with disk_errors("check", self.uri(key)):
            return self._path(key).is_file()

    def list(self, prefix: str = "") -> Entries:
        with disk_errors("list", self.uri(prefix)):
            return sorted(self._entries(self._path(prefix) if prefix.strip("/") else self.root))

    def delete(self, prefix: str) -> None:
        with disk_errors("delete", self.uri(prefix)):
            path = self._path(prefix)
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def uri(self, key: str = "") -> str:
        return str(self.root / key.strip("/"))

    def _path(self, key: str) -> Path:
        return self.root / check_key(key.removesuffix("/"))

    def _entries(self, root: Path) -> Iterator[Entry]:
        for path in [root] if root.is_file() else files(root):
            stat = path.stat()
            yield Entry(path.relative_to(self.root).as_posix(), stat.st_size, f"{stat.st_mtime_ns:x}")


def files(folder: Path) -> Iterator[Path]:
    """Every complete file under a folder; links to folders are not followed, because they may form a cycle."""
    for parent, _, names in os.walk(folder):
        yield from (path for path in (Path(parent, name) for name in names) if not is_temporary(path))
