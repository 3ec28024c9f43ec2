"""A working directory as one archive: which of its files reach the cluster, and their deterministic zip file."""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from adjobs.errors import QueueError, one_line, printable
from adjobs.queue.ignoring import OWN_FILE, Fate, IgnoreRules, is_environment
from adjobs.storage.base import file_sha256

MAX_ARCHIVE = 100 * 2**20 - 1
"""Bytes of an archive: Ray's HTTP interface takes no more."""

MAX_FILES = 20_000
"""Of one working directory; more are an environment or images that nobody left out."""

_LARGEST = 3  # files that are named where not all are
_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip file can hold: times are no content


@dataclass(frozen=True)
class PackedFile:
    """A file of a working directory.

    Attributes:
        name: its path from the directory, with forward slashes.
        path: where it is; elsewhere in the directory if it is a link.
        size: in bytes.
        is_executable: whether its owner may run it.
    """

    name: str
    path: Path
    size: int
    is_executable: bool = False


@dataclass(frozen=True)
class WorkingDir:
    """What of a directory is uploaded.

    Attributes:
        root: the directory.
        files: sorted by name.
        secrets: names of what was left out because it may be a secret, sorted.
        extra: content of small files that are added, by name.
    """

    root: Path
    files: tuple[PackedFile, ...]
    secrets: tuple[str, ...] = ()
    extra: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files) + sum(map(len, self.extra.values()))

    def largest(self) -> str:
        """The largest files, in words."""
        largest = sorted(self.files, key=lambda file: (-file.size, file.name))[:_LARGEST]
        return ", ".join(f"{printable(file.name)} {size_text(file.size)}" for file in largest)


def size_text(size: float) -> str:
    """Bytes as people read them.

    >>> size_text(2_147_483_648), size_text(3_400), size_text(12)
    ('2.1 GB', '3.4 kB', '12 bytes')
    """
    for factor, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size:.0f} bytes"


def scan(
    root: Path,
    named: Collection[Path],
    data: Collection[Path],
    max_bytes: int,
    extra: Mapping[str, bytes] | None = None,
) -> WorkingDir:
    """Find what of a directory is to be uploaded; no file is read.

    Args:
        root: the directory.
        named: files and folders in it that jobs name; they are taken whatever the ignore files say.
        data: folders of images, which stay where they are.
        max_bytes: of all files together.
        extra: content of small files that are added, by name.

    Raises:
        QueueError: it is no directory, too large, holds a link that leads out, or a file whose name or kind cannot be packed.
    """
    if not root.is_dir():
        raise QueueError(f"--working-dir {root}: {'is not a folder' if root.exists() else 'no such folder'}; give one with code")
    root = Path(os.path.normpath(root.absolute()))
    scanner = _Scanner(root, frozenset(os.path.realpath(folder) for folder in data))
    try:
        scanner.walk(root, "", IgnoreRules())
        for path in named:
            scanner.take_named(path)
    except OSError as error:
        problem = f"cannot be read ({one_line(error)})"
        raise QueueError(f"--working-dir {root}: {problem}; correct that, or leave it out in {OWN_FILE}") from error
    files = tuple(scanner.files[name] for name in sorted(scanner.files))
    result = WorkingDir(root, files, tuple(sorted(scanner.secrets - scanner.files.keys())), extra or {})
    if result.size > max_bytes:
        raise QueueError(
            f"--working-dir {root}: {size_text(result.size)} in {len(files)} files, at most {size_text(max_bytes)} are uploaded; "
            f"the largest are {result.largest()}; leave them out in {OWN_FILE}, or store them in S3"
        )
    return result


def write_archive(directory: WorkingDir, target: Path) -> str:
    """Write the archive of a working directory; returns its SHA-256, which is the same for the same files.

    Nothing is compressed: other versions of zlib would make other bytes of the same files.

    Raises:
        QueueError: a file cannot be read, or changed meanwhile; or the names of very many files make it too large.
    """
    with zipfile.ZipFile(target, "w") as archive:
        for file in directory.files:
            _add_file(archive, file)
        for name in sorted(directory.extra):
            archive.writestr(_entry(name, is_executable=False), directory.extra[name])
    if (size := target.stat().st_size) > MAX_ARCHIVE:
        problem = f"{size_text(size)} as an archive, at most {size_text(MAX_ARCHIVE)} are allowed"
        raise QueueError(f"--working-dir {directory.root}: {problem}; leave files out in {OWN_FILE}, or store them in S3")
    return file_sha256(target)


def _add_file(archive: zipfile.ZipFile, file: PackedFile) -> None:
    try:
        content = file.path.read_bytes()
    except OSError as error:
        raise QueueError(f"{file.path}: cannot be read ({one_line(error)}); correct it, or leave it out in {OWN_FILE}") from error
    if len(content) != file.size:
        raise QueueError(f"{file.path}: changed while it was read; submit again when nothing writes to it")
    archive.writestr(_entry(file.name, is_executable=file.is_executable), content)


def _entry(name: str, *, is_executable: bool) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _TIME)
    entry.create_system = 3  # Unix, also where it is packed elsewhere
    entry.external_attr = (stat.S_IFREG | (0o755 if is_executable else 0o644)) << 16
    return entry


class _Scanner:
    """Collects the files of a directory."""

    def __init__(self, root: Path, data: frozenset[str]) -> None:
        self._root, self._data = root, data
        self._real_root = Path(os.path.realpath(root))
        self.files: dict[str, PackedFile] = {}
        self.secrets: set[str] = set()

    def walk(self, folder: Path, prefix: str, rules: IgnoreRules | None) -> None:
        """Take what is in a folder; everything without rules."""
        if os.path.realpath(folder) in self._data:
            return
        if rules is not None:
            rules = rules.inside(folder, prefix)
        for entry in _entries(folder):
            name = prefix + entry.name
            is_folder = entry.is_dir(follow_symlinks=False)
            fate = Fate.TAKEN if rules is None else rules.fate(name + "/" * is_folder)
            if fate is Fate.SECRET:
                self.secrets.add(name)
            elif fate is Fate.LEFT or (rules is not None and is_folder and is_environment(Path(entry.path))):
                continue
            elif is_folder:
                self.walk(Path(entry.path), name + "/", rules)
            else:
                self._take(name, Path(entry.path), rules)

    def take_named(self, path: Path) -> None:
        """Take a file or folder that a job names."""
        name = path.relative_to(self._root).as_posix()
        if path == self._root:
            return
        if path.is_dir() and not path.is_symlink():
            self.walk(path, f"{name}/", None)
        else:
            self._take(name, path, None)

    def _take(self, name: str, path: Path, rules: IgnoreRules | None) -> None:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise QueueError(f"{path}: its name is not valid UTF-8; rename it, or leave it out in {OWN_FILE}") from None
        status = path.stat() if not path.is_symlink() else self._status_of_link(name, path, rules)
        if status is None:
            return
        if stat.S_ISREG(status.st_mode):  # sockets and pipes hold nothing
            self.files[name] = PackedFile(name, path, status.st_size, bool(status.st_mode & stat.S_IXUSR))
        if len(self.files) > MAX_FILES:
            problem = f"more than {MAX_FILES} files, such as {printable(name)}"
            raise QueueError(f"--working-dir {self._root}: {problem}; leave out what no job needs in {OWN_FILE}")

    def _status_of_link(self, name: str, path: Path, rules: IgnoreRules | None) -> os.stat_result | None:
        """That of the file to which a link leads; None if that is data, or may be a secret."""
        target = Path(os.path.realpath(path))
        if str(target) in self._data:
            return None
        is_outside = not target.is_relative_to(self._real_root)
        if is_outside or not target.is_file():
            place = "out of the working directory" if is_outside else "a folder" if target.is_dir() else "which does not exist"
            raise QueueError(f"{path}: links to {target}, {place}; copy what is needed, or leave the link out in {OWN_FILE}")
        if rules is not None and IgnoreRules().fate(target.relative_to(self._real_root).as_posix()) is Fate.SECRET:
            self.secrets.add(name)
            return None
        return target.stat()


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        listed: Sequence[os.DirEntry[str]] = sorted(entries, key=lambda entry: entry.name)
    yield from listed
