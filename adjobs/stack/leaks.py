"""Where the values of secrets have come to: files that others may read, command lines, logs, databases and records of jobs."""

from __future__ import annotations

import json
import re
import sqlite3
import stat
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil

from adjobs.errors import StorageError
from adjobs.stack import probes
from adjobs.stack.probes import Check, Exposure, check_places, mode_of
from adjobs.storage.base import Store

_CHUNK = 1 << 20
_MIN_LENGTH = 12  # shorter texts may occur by chance
_MAX_RECORD = 1 << 20  # bytes; a record of a job is far smaller
_OTHERS = stat.S_IRWXG | stat.S_IRWXO

Secrets = Mapping[str, str]
"""Values by the names of their files."""


def read_secrets(folder: Path) -> dict[str, str]:
    """The secret values in a folder of credentials, by file; one that has several is listed several times.

    Of JSON and TOML these are the values of keys that end in ``secretKey``, ``password`` or ``key``, of PEM a line of the private
    key, and of others all of the text.
    """
    secrets: dict[str, str] = {}
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        values = [value for value in _values(path.read_text(errors="replace")) if len(value) >= _MIN_LENGTH]
        secrets |= {f"{path.name}#{number}" if number else path.name: value for number, value in enumerate(values)}
    return secrets


def _values(text: str) -> Iterator[str]:
    if pem := re.search(r"PRIVATE KEY-----\n(\S+)", text):
        yield pem[1]
        return
    for parse in (json.loads, tomllib.loads):
        try:
            document = parse(text)
        except ValueError:
            continue
        if isinstance(document, dict):
            yield from _keys(document)
            return
    yield text.strip()


def _keys(document: Any) -> Iterator[str]:
    if isinstance(document, list):
        for item in document:
            yield from _keys(item)
    elif isinstance(document, dict):
        for name, value in document.items():
            if isinstance(value, str):
                if name.lower().endswith(("secretkey", "password", "key")) and name != "accessKey" and not value.startswith("/"):
                    yield value
            else:
                yield from _keys(value)


def check_permissions(what: str, paths: Iterable[Path]) -> Check:
    """Whether only this user may use these files and folders."""
    listed = [path for path in paths if path.exists()]
    shared = [f"{path} ({mode_of(path):04o})" for path in listed if mode_of(path) & _OTHERS]
    return check_places(what, shared, f"{len(listed)}, all of this user alone")


def check_command_lines(processes: Iterable[psutil.Process], secrets: Secrets) -> Check:
    """Whether a secret is in the arguments of a process, which every user of the machine can read."""
    places, count = [], 0
    for process in processes:
        try:
            text = "\0".join(process.cmdline())
            name = process.name()
        except psutil.Error:
            continue
        if not text:  # ended, or so young that the kernel has not yet put its arguments in place
            continue
        count += 1
        places += [f"{secret} in {name} (process {process.pid})" for secret, value in secrets.items() if value in text]
    return check_places("secrets in command lines", places, f"none in those of {count} processes")


def check_files(what: str, files: Iterable[Path], secrets: Secrets) -> Check:
    """Whether a secret is in one of these files; those that have gone meanwhile do not count."""
    places: list[str] = []
    unreadable: list[str] = []
    count = 0
    for path in files:
        try:
            places += [f"{name} in {path}" for name in _names_in(path, secrets)]
        except FileNotFoundError:
            continue
        except OSError as error:
            unreadable.append(f"{path}: {error.strerror}")
        count += 1
    if unreadable and not places:
        return Check(what, Exposure.UNKNOWN, f"{len(unreadable)} of {count} files cannot be read ({unreadable[0]})")
    return check_places(what, places, f"none in {count} files")


def _names_in(path: Path, secrets: Secrets) -> set[str]:
    """The secrets in a file, read piece by piece."""
    values = {name: value.encode() for name, value in secrets.items()}
    overlap = max(map(len, values.values()), default=1) - 1
    names: set[str] = set()
    with path.open("rb") as file:
        rest = b""
        while chunk := file.read(_CHUNK):
            text = rest + chunk
            names |= {name for name, value in values.items() if value in text}
            rest = text[-overlap:] if overlap else b""
    return names


def check_database(what: str, path: Path, secrets: Secrets) -> Check:
    """Whether a secret is in a cell of a SQLite file."""
    if not path.exists():
        return Check(what, Exposure.UNKNOWN, f"{path} does not exist")
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=5)) as connection:
            places, count = [], 0
            for table, column in _columns(connection):
                count += 1
                places += [f"{name} in {table}.{column}" for name in _in_column(connection, table, column, secrets)]
    except sqlite3.Error as error:
        return Check(what, Exposure.UNKNOWN, f"{path} cannot be read ({error})")
    return check_places(what, places, f"none in {count} columns of {path.name}")


def _columns(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    statement = "select m.name, c.name from sqlite_master m join pragma_table_info(m.name) c where m.type = 'table'"
    return [(str(table), str(column)) for table, column in connection.execute(statement)]


def _in_column(connection: sqlite3.Connection, table: str, column: str, secrets: Secrets) -> list[str]:
    cell = f"cast({_quoted(column)} as text)"
    chosen = ", ".join(f"max(instr({cell}, ?) > 0)" for _ in secrets)
    if not chosen:
        return []
    row = connection.execute(f"select {chosen} from {_quoted(table)}", list(secrets.values())).fetchone()
    return [name for name, is_in in zip(secrets, row, strict=True) if is_in]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def check_answer(what: str, url: str, token: str, secrets: Secrets) -> Check:
    """Whether a secret is in the answer to a GET with a bearer token."""
    text = probes.read_with_token(url, token)
    if text is None:
        return Check(what, Exposure.UNKNOWN, f"{url} does not answer")
    return check_places(what, [f"{name} at {url}" for name, value in secrets.items() if value.encode() in text], f"none at {url}")


def check_records(what: str, store: Store, prefix: str, secrets: Secrets) -> Check:
    """Whether a secret is in one of the small objects under a prefix."""
    places, count = [], 0
    try:
        for entry in store.list(prefix):
            if entry.size <= _MAX_RECORD:
                text = store.read(entry.key)
                count += 1
                places += [f"{name} in {store.uri(entry.key)}" for name, value in secrets.items() if value.encode() in text]
    except StorageError as error:
        return Check(what, Exposure.UNKNOWN, str(error))
    return check_places(what, places, f"none in {count} objects")
