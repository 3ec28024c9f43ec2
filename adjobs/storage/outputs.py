"""Files and folders that a user names for results: nothing is replaced there but what an earlier call has written.

A folder carries a list of what was written into it, `OUTPUTS_FILE`. Single files must be recognisable by their content.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from adjobs.errors import StorageError
from adjobs.paths import expand_home
from adjobs.storage.base import atomic_write, disk_errors, file_sha256

OUTPUTS_FILE = ".adjobs-outputs.jsonl"
"""Of each file that was written into a folder one line with ``verb``, ``file``, and ``sha256``, null if it changes."""


def output_file(path: Path, description: str, is_ours: Callable[[Path], bool]) -> Path:
    """The file to write for a path that a user named; links are followed.

    Args:
        path: what the user named; ``~`` is the home folder.
        description: what is written, such as "a report".
        is_ours: whether an existing file is such a thing, by its content.

    Raises:
        StorageError: the path exists and is something else.
    """
    with disk_errors("write", path):
        target = Path(os.path.realpath(expand_home(path)))
        if target.exists() and not (target.is_file() and is_ours(target)):
            raise StorageError(f"{path}: exists and is not {description}; choose another path, or remove it")
        return target


def refuse_images_in(root: Path, path: Path) -> None:
    """Refuse to write an image into a data set, which would then have one image more.

    Args:
        root: the data set's folder.
        path: of the image, as the user named it.

    Raises:
        StorageError: the path is in the folder.
    """
    if Path(os.path.realpath(expand_home(path))).is_relative_to(os.path.realpath(root)):
        raise StorageError(f"{path}: is in the data set, which would take it for an image; choose a path outside it with --out")


class OutputFolder:
    """A folder for the results of a verb, of one process at a time from the first file that is written.

    Its threads may write different files at the same time.

    Args:
        folder: what the user named; ``~`` is the home folder. It is created when the first file is written.
        verb: name of the verb; what other verbs wrote is not replaced.

    Raises:
        StorageError: the list of earlier results cannot be read.
    """

    def __init__(self, folder: Path, verb: str) -> None:
        self.path = expand_home(folder)
        self._verb = verb
        self._list: int | None = None  # descriptor of the locked list
        self._unlock: weakref.finalize[..., OutputFolder] | None = None
        self._mutex = threading.RLock()  # of the list and its digests
        with disk_errors("read", self.path / OUTPUTS_FILE):
            self._digests = _read_digests(self.path, verb)

    def check(self, names: Iterable[str]) -> None:
        """Refuse names of existing files that were not written by an earlier call.

        Raises:
            StorageError: there are some; names the first and the number of others.
        """
        with disk_errors("write into", self.path):
            foreign = [name for name in names if name not in self._digests and os.path.lexists(self.path / name)]
        if foreign:
            self._refuse(foreign)

    @contextmanager
    def write(self, name: str) -> Iterator[Path]:
        """A temporary file that becomes the file of this name when the block ends without an error.

        Raises:
            StorageError: the file exists and was not written, or has been changed since, or the disk refuses.
        """
        target = self.path / name
        with disk_errors("write", target):
            self._lock()
        with disk_errors("write", target), atomic_write(target) as temporary:
            yield temporary
            if os.path.lexists(target) and not self._is_ours(target):
                self._refuse([name])
            self._record(name, file_sha256(temporary))

    def open_lines(self, name: str) -> LinesFile:
        """A new text file of this name that grows line by line; an earlier one is removed.

        Raises:
            StorageError: the file exists and was not written by an earlier call, or the disk refuses.
        """
        target = self.path / name
        with disk_errors("write", target):
            self._lock()
            if os.path.lexists(target) and not self._is_ours(target):
                self._refuse([name])
            target.unlink(missing_ok=True)
            self._record(name, None)
            return LinesFile(target)

    def append_lines(self, name: str) -> LinesFile:
        """Like :func:`open_lines`, but the lines of an earlier call stay.

        Raises:
            StorageError: the file does not exist or was not written by an earlier call, or the disk refuses.
        """
        target = self.path / name
        with disk_errors("write", target):
            self.lock()
            if not self._is_ours(target):
                self._refuse([name])
            return LinesFile(target, append=True)

    def remove(self, name: str) -> None:
        """Remove a file of an earlier call, if there is one.

        Raises:
            StorageError: the file was not written by an earlier call, or has been changed since, or the disk refuses.
        """
        target = self.path / name
        with disk_errors("remove", target):
            self._lock()
            if os.path.lexists(target):
                if not self._is_ours(target):
                    self._refuse([name])
                target.unlink()

    def lock(self) -> None:
        """Keep other processes out before the first file is written, until this process, or this object, ends or is unlocked.

        Raises:
            StorageError: another process is writing, or the disk refuses.
        """
        with disk_errors("write into", self.path):
            self._lock()

    def unlock(self) -> None:
        """Let other processes in."""
        with self._mutex:
            if self._unlock is not None:
                self._unlock()
            self._list = self._unlock = None

    def _is_ours(self, path: Path) -> bool:
        digests = self._digests.get(path.name, set())
        return path.is_file() and not path.is_symlink() and (None in digests or file_sha256(path) in digests)

    def _record(self, name: str, digest: str | None) -> None:
        """Note a file before it gets its name: what is killed between the two can be run again."""
        with self._mutex:
            known = self._digests.setdefault(name, set())
            if digest in known:
                return
            known.add(digest)
            line = json.dumps({"verb": self._verb, "file": name, "sha256": digest})
            os.write(self._lock(), f"{line}\n".encode())

    def _lock(self) -> int:
        """Open the list and keep other processes out until this one, or this object, ends."""
        with self._mutex:
            if self._list is None:
                self._list = self._open_list()
            return self._list

    def _open_list(self) -> int:
        self.path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path / OUTPUTS_FILE, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        self._unlock = weakref.finalize(self, os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StorageError(
                f"{self.path}: another 'adjobs {self._verb}' is writing into it; wait for it, or choose another --out"
            ) from error
        self._digests = _read_digests(self.path, self._verb)  # another process may have written since
        return descriptor

    def _refuse(self, names: list[str]) -> None:
        more = f" (and {len(names) - 1} more)" if names[1:] else ""
        raise StorageError(
            f"{self.path / names[0]}: exists and was not written by 'adjobs {self._verb}', or has been changed since{more}; "
            "choose another folder with --out, or move the file"
        )


class LinesFile:
    """A text file that grows by whole lines: one that does not fit on the disk is left out.

    Args:
        path: of the file, which must not exist.
        append: continue a file that exists, and that ends with a whole line.
    """

    def __init__(self, path: Path, *, append: bool = False) -> None:
        self._path = path
        self._file = path.open("ab" if append else "xb", buffering=0)

    def append(self, line: str) -> None:
        """Write a line, which must not contain line breaks; what reads the file finds it at once.

        Raises:
            StorageError: the disk refuses.
        """
        size = self._file.tell()
        remaining = memoryview(f"{line}\n".encode())
        with disk_errors("write", self._path):
            try:
                while remaining:
                    remaining = remaining[self._file.write(remaining) :]
            except OSError:
                self._file.seek(size)
                self._file.truncate()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


def written_names(folder: Path) -> set[str]:
    """Names of the files in a folder that verbs have written; empty if none has, or if its list cannot be read."""
    try:
        return {name for name, _ in _read_list(folder, None)}
    except OSError:
        return set()


def _read_digests(folder: Path, verb: str) -> dict[str, set[str | None]]:
    """Digests of all contents that a verb has written into a folder, by the name of the file; None is any content."""
    digests: dict[str, set[str | None]] = {}
    for name, digest in _read_list(folder, verb):
        digests.setdefault(name, set()).add(digest)
    return digests


def _read_list(folder: Path, verb: str | None) -> Iterator[tuple[str, str | None]]:
    """Names and digests of the files that a verb, or any verb, has written into a folder."""
    try:
        lines = (folder / OUTPUTS_FILE).read_text(encoding="utf-8", errors="replace").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return
    for line in lines:
        try:
            entry = json.loads(line)
            name, digest = str(entry["file"]), entry["sha256"]
            if verb in (None, entry["verb"]) and (digest is None or isinstance(digest, str)):
                yield name, digest
        except (ValueError, KeyError, TypeError):  # cut off when the process was killed, or not ours
            continue
