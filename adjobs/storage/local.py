"""A folder with the interface of S3."""

# ruff: noqa: D102 (what the Protocol documents needs no second text)

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from adjobs.storage.base import PART, Entries, Entry, beside, check_key, disk


class LocalStore:
    """Files under a root. They are written beside and renamed, so that no reader sees half of one."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()

    def put(self, local: Path, key: str) -> None:
        with disk(f"store {local} as", self.uri(key)), beside(self._path(key)) as part:
            shutil.copyfile(local, part)

    def get(self, key: str, local: Path) -> None:
        with disk("read", self.uri(key)), beside(local) as part:
            shutil.copyfile(self._path(key), part)

    def read(self, key: str) -> bytes:
        with disk("read", self.uri(key)):
            return self._path(key).read_bytes()

    def write(self, key: str, data: bytes) -> None:
        with disk("store", self.uri(key)), beside(self._path(key)) as part:
            part.write_bytes(data)

    def exists(self, key: str) -> bool:
        with disk("look for", self.uri(key)):
            return self._path(key).is_file()

    def list(self, prefix: str = "") -> Entries:
        with disk("list", self.uri(prefix)):
            return sorted(self._entries(self._path(prefix) if prefix.strip("/") else self.root))

    def delete(self, prefix: str) -> None:
        with disk("delete", self.uri(prefix)):
            path = self._path(prefix)
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def uri(self, key: str = "") -> str:
        return str(self.root / key.strip("/"))

    def _path(self, key: str) -> Path:
        return self.root / check_key(key.removesuffix("/"))

    def _entries(self, top: Path) -> Iterator[Entry]:
        for path in [top] if top.is_file() else files(top):
            stat = path.stat()
            yield Entry(path.relative_to(self.root).as_posix(), stat.st_size, f"{stat.st_mtime_ns:x}")


def files(folder: Path) -> Iterator[Path]:
    """Every whole file under a folder; links to folders are not followed, because they may lead in a circle."""
    for top, _, names in os.walk(folder):
        yield from (Path(top, name) for name in names if not name.endswith(PART))
