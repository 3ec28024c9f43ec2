"""Copy a data set of any layout to a folder or to S3: its images and labels, with one manifest.

An interrupted copy is never taken for a data set: until all files have been copied and compared, the manifest is a marker that
no reader accepts. Running the import again continues it. A file counts as copied if it has the size and the SHA-256 of its
source. In S3, where reading everything back would take as long as the copy, an entity tag that equals the MD5 of the source is
sufficient; only files with other tags (large or encrypted ones) are read back.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from adjobs.data.annotations import INVALID
from adjobs.data.dataset import Dataset
from adjobs.data.formats.manifest import UNFINISHED
from adjobs.data.manifest_lines import write_line
from adjobs.data.problem import OUT_OF_MEMORY
from adjobs.data.regular_files import open_regular
from adjobs.data.walk import content_hash
from adjobs.errors import DataError
from adjobs.parallel import in_threads
from adjobs.storage import Entry, LocalStore, Store, open_store
from adjobs.storage.base import check_key, is_temporary

UNREADABLE = frozenset(
    {"unreadable", "truncated", "too large", OUT_OF_MEMORY, "link", "mask unreadable", "blocks unreadable", "box empty", INVALID}
)
"""Kinds of problems that prevent an import: the sample could not be trained on, or the manifest not say what its labels are."""

MANIFEST = "manifest.jsonl"
_MANIFESTS = (MANIFEST, "manifest.csv")


class ImportResult(NamedTuple):
    """The outcome of an import.

    Attributes:
        destination: address of the copy.
        copied: number of files copied by this import.
        already_present: number of files that an earlier import had copied.
        size: bytes copied by this import.
    """

    destination: str
    copied: int
    already_present: int
    size: int


def refuse_overlap(dataset: Dataset, source: str, destination: str) -> None:
    """Refuse a destination that is the source or lies inside it.

    Args:
        dataset: the opened source.
        source: address of the source.
        destination: folder, ``file://`` or ``s3://`` address.

    Raises:
        DataError: the destination overlaps with the source.
        StorageError: the destination is not the address of a store.
    """
    store = open_store(destination)
    if isinstance(store, LocalStore):
        is_inside = store.root.resolve().is_relative_to(dataset.root.resolve())
    else:
        is_inside = source.startswith("s3://") and f"{store.uri()}/".startswith(f"{open_store(source).uri()}/")
    if is_inside:
        raise DataError(f"{destination}: is inside the data set {source}; choose a destination outside it")


def import_dataset(dataset: Dataset, destination: str, *, progress: bool = False) -> ImportResult:
    """Copy the files of all samples, at their paths relative to the data set, and write the manifest last.

    The copy has the same ids and labels as its source, and therefore the same fingerprint.

    Args:
        dataset: the data set to copy.
        destination: folder, ``file://`` or ``s3://`` address; empty, or with a complete or interrupted copy of the same samples.
        progress: show progress bars on a terminal's standard error.

    Raises:
        DataError: a source file cannot be read or changed during the import, or the destination holds something else.
        StorageError: the destination cannot be written.
    """
    store = open_store(destination)
    if isinstance(store, LocalStore):
        _refuse_file_or_links(store.root)
    keys = {path: _key(dataset, path) for sample in dataset.samples for path in sample.files}
    hashes = dict(zip(keys, in_threads(content_hash, list(keys), text="hashing", progress=progress), strict=True))
    manifest = _manifest(dataset, hashes)
    marker = (json.dumps([UNFINISHED, hashlib.sha256(manifest).hexdigest()]) + "\n").encode()
    entries = {entry.key: entry for entry in store.list()}
    is_complete = _is_complete(store, entries, manifest, marker)

    def must_copy(path: Path) -> bool:
        entry = entries.get(keys[path])
        is_equal = entry is not None and is_copy(store, entry, path, hashes[path])
        if entry and is_complete and not is_equal:
            raise DataError(
                f"{store.uri(entry.key)}: differs from its source {path}; a complete copy is never changed; "
                "choose another destination, or delete this file"
            )
        return not is_equal

    flags = in_threads(must_copy, list(keys), text="comparing", progress=progress)
    missing = [path for path, flag in zip(keys, flags, strict=True) if flag]
    if missing or not is_complete:
        store.write(MANIFEST, marker)
        copy_files(store, {keys[path]: path for path in missing}, hashes, progress=progress)
        store.write(MANIFEST, manifest)
    if isinstance(store, LocalStore):
        for temporary in filter(is_temporary, list(store.root.rglob(".*.tmp"))):  # left by copies that were killed
            temporary.unlink(missing_ok=True)
    return ImportResult(store.uri(), len(missing), len(keys) - len(missing), sum(path.stat().st_size for path in missing))


def _refuse_file_or_links(folder: Path) -> None:
    """Refuse a destination through whose links files elsewhere could be written."""
    if folder.is_file():
        raise DataError(f"{folder}: is a file; the destination must be a folder, or not exist; choose another")
    for parent, names, _ in os.walk(folder):
        if link := next((path for path in (Path(parent, name) for name in names) if path.is_symlink()), None):
            raise DataError(f"{link}: is a link to a folder, through which the import would write elsewhere; remove the link")


def _key(dataset: Dataset, path: Path) -> str:
    if not path.is_relative_to(dataset.root):
        raise DataError(
            f"{path}: is not in {dataset.root}; only data sets in a single folder can be imported; move the file there"
        )
    return check_key(path.relative_to(dataset.root).as_posix())


def _manifest(dataset: Dataset, hashes: Mapping[Path, str]) -> bytes:
    lines = [{**write_line(sample, dataset.root), "sha256": hashes[sample.image]} for sample in dataset.samples]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def _is_complete(store: Store, entries: Mapping[str, Entry], manifest: bytes, marker: bytes) -> bool:
    """Whether the store holds a complete copy of the same samples.

    Raises:
        DataError: the store holds something other than a complete or interrupted copy of the same samples.
    """
    name = next((name for name in _MANIFESTS if name in entries), None)
    content = store.read(MANIFEST) if name == MANIFEST else b""
    if entries and content not in (manifest, marker):
        if content.startswith(f'["{UNFINISHED}"'.encode()):
            problem = "contains an interrupted import of other samples, which can be deleted"
        else:
            problem = f"contains another data set ({name})" if name else f"is not empty ({min(entries)})"
        raise DataError(
            f"{store.uri()}: {problem}; the destination must be empty, or hold a copy of the same samples; choose another"
        )
    return content == manifest


def is_copy(store: Store, entry: Entry, path: Path, digest: str) -> bool:
    """Whether a stored file has the content of a source file with this SHA-256."""
    if entry.size != path.stat().st_size:
        return False
    if isinstance(store, LocalStore):
        return content_hash(Path(store.uri(entry.key))) == digest
    with open_regular(path) as file:
        if entry.etag.strip('"') == hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest():
            return True
    with tempfile.TemporaryDirectory(prefix="adjobs-") as folder:
        downloaded = Path(folder) / "file"
        store.get(entry.key, downloaded)
        return content_hash(downloaded) == digest


def copy_files(
    store: Store, sources: Mapping[str, Path], hashes: Mapping[Path, str], *, prefix: str = "", progress: bool
) -> None:
    """Copy files into a store, and compare all copies with their sources.

    Args:
        store: where they are copied to.
        sources: the files by their key.
        hashes: SHA-256 of each, from before the copy.
        prefix: folder of the store that holds all keys.
        progress: show progress bars on a terminal's standard error.

    Raises:
        DataError: a file changed meanwhile.
        StorageError: the store cannot be written.
    """
    in_threads(lambda key: store.put(sources[key], key), list(sources), text="copying", progress=progress)
    stored = {entry.key: entry for entry in store.list(prefix)} if sources else {}

    def compare(key: str) -> None:
        path = sources[key]
        if key not in stored or not is_copy(store, stored[key], path, hashes[path]):
            raise DataError(
                f"{path}: its copy differs from it; the file changed meanwhile, or the storage returned an error; "
                "run the same command again"
            )

    in_threads(compare, list(sources), text="verifying", progress=progress)
