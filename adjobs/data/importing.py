"""Copy a data set of any layout to a folder or to S3, as the images and labels themselves with one manifest.

A copy that was broken off is never taken for a data set: until all files are there and were compared, the manifest is a note
that no reader accepts. Run again, it goes on. A file counts as copied if it has the size and the SHA-256 of the source; in S3,
where reading everything back would take as long as the copy, an entity tag that is the MD5 of the source will do, and only
files whose tag is something else (large or encrypted ones) are read back.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from adjobs.data.dataset import Dataset
from adjobs.data.formats.manifest import write_line
from adjobs.data.walk import content_hash
from adjobs.errors import DataError
from adjobs.parallel import in_threads
from adjobs.storage import Entry, LocalStore, Store, open_store
from adjobs.storage.base import PART

UNREADABLE = frozenset({"unreadable", "truncated", "too large", "mask unreadable", "blocks unreadable", "box empty"})
"""Kinds of problems that must not be copied: nothing could be trained on these samples, or the manifest be read back."""

MANIFEST = "manifest.jsonl"
_MANIFESTS = (MANIFEST, "manifest.csv")
_UNFINISHED = "unfinished: run the same 'adjobs data import' again"


class Copied(NamedTuple):
    """What an import did: where to, files copied now, files that were there already, and bytes copied now."""

    place: str
    copied: int
    kept: int
    size: int


def refuse_overlap(index: Dataset, source: str, destination: str) -> None:
    """Refuse a destination that is the source or lies in it.

    Args:
        index: the source, opened.
        source: its address.
        destination: folder, ``file://`` or ``s3://`` address.

    Raises:
        DataError: it does.
        StorageError: the destination is no address of a store.
    """
    store = open_store(destination)
    if isinstance(store, LocalStore):
        inside = store.root.resolve().is_relative_to(index.root.resolve())
    else:
        inside = source.startswith("s3://") and f"{store.uri()}/".startswith(f"{open_store(source).uri()}/")
    if inside:
        raise DataError(f"{destination}: lies in the data set {source}; a copy needs a place of its own; choose one outside")


def import_index(index: Dataset, destination: str, *, progress: bool = False) -> Copied:
    """Copy the files of all samples, at their paths relative to the data set, and write the manifest last.

    The copy has the ids, the labels and so the fingerprint of its source.

    Args:
        index: what to copy.
        destination: folder, ``file://`` or ``s3://`` address; empty, or with an earlier or unfinished copy of the same samples.
        progress: show progress bars on a terminal's standard error.

    Raises:
        DataError: a source file cannot be read, or changed meanwhile, or the destination holds something else.
        StorageError: the destination cannot be written.
    """
    store = open_store(destination)
    paths = {path: _key(index, path) for sample in index.samples for path in sample.files}
    hashes = dict(zip(paths, in_threads(content_hash, list(paths), text="hashing", progress=progress), strict=True))
    manifest = _manifest(index, hashes)
    note = (json.dumps([_UNFINISHED, hashlib.sha256(manifest).hexdigest()]) + "\n").encode()
    there = {entry.key: entry for entry in store.list()}
    finished = _finished(store, there, manifest, note)

    def to_copy(path: Path) -> bool:
        entry = there.get(paths[path])
        same = entry is not None and _same(store, entry, path, hashes[path])
        if entry and finished and not same:
            got = f"{store.uri(entry.key)}: is not equal to {path}, of which it was a copy"
            raise DataError(f"{got}; a finished copy is not changed; choose another place, or delete this file")
        return not same

    flags = in_threads(to_copy, list(paths), text="comparing", progress=progress)
    missing = [path for path, flag in zip(paths, flags, strict=True) if flag]
    if missing or not finished:
        store.write(MANIFEST, note)
        in_threads(lambda path: store.put(path, paths[path]), missing, text="copying", progress=progress)
        _refuse_unequal(store, {paths[path]: path for path in missing}, hashes, progress)
        store.write(MANIFEST, manifest)
    if isinstance(store, LocalStore):
        for part in store.root.rglob(f".*{PART}"):  # of copies that were killed
            part.unlink(missing_ok=True)
    return Copied(store.uri(), len(missing), len(paths) - len(missing), sum(path.stat().st_size for path in missing))


def _key(index: Dataset, path: Path) -> str:
    if not path.is_relative_to(index.root):
        raise DataError(f"{path}: is not in {index.root}; a data set that is copied must lie in one folder; move it there")
    return path.relative_to(index.root).as_posix()


def _manifest(index: Dataset, hashes: Mapping[Path, str]) -> bytes:
    lines = [{**write_line(sample, index.root), "sha256": hashes[sample.image]} for sample in index.samples]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def _finished(store: Store, there: Mapping[str, Entry], manifest: bytes, note: bytes) -> bool:
    """Whether a copy of the same samples has been finished; refuses a place with anything but such a copy, or a part of it."""
    found = next((name for name in _MANIFESTS if name in there), None)
    content = store.read(MANIFEST) if found == MANIFEST else b""
    if there and content not in (manifest, note):
        got = f"holds another data set ({found})" if found else f"is not empty ({min(there)})"
        need = "a copy goes to an empty place, or on with one of the same samples"
        raise DataError(f"{store.uri()}: {got}; {need}; choose another place, or empty this one")
    return content == manifest


def _same(store: Store, entry: Entry, path: Path, digest: str) -> bool:
    """Whether a stored file has the content of a source file with this SHA-256."""
    if entry.size != path.stat().st_size:
        return False
    if isinstance(store, LocalStore):
        return content_hash(Path(store.uri(entry.key))) == digest
    with path.open("rb") as file:
        if entry.etag.strip('"') == hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest():
            return True
    with tempfile.TemporaryDirectory(prefix="adjobs-") as folder:
        back = Path(folder) / "file"
        store.get(entry.key, back)
        return content_hash(back) == digest


def _refuse_unequal(store: Store, copied: Mapping[str, Path], hashes: Mapping[Path, str], progress: bool) -> None:
    """Compare all that was copied with its source."""
    stored = {entry.key: entry for entry in store.list()} if copied else {}

    def compare(key: str) -> None:
        path = copied[key]
        if key not in stored or not _same(store, stored[key], path, hashes[path]):
            raise DataError(f"{path}: its copy is not equal to it; the file changed meanwhile, or the storage erred; run again")

    in_threads(compare, list(copied), text="verifying", progress=progress)
