"""What was computed about data once, kept in the cache of this machine."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from adjobs.errors import StorageError
from adjobs.storage.base import atomic_write, disk_errors

log = logging.getLogger(__name__)


def answer_path(cache: Path, kind: str, question: object) -> Path:
    """The file of the answer to a question, which is all that the answer depends on, as JSON can hold it."""
    return cache / kind / f"{hashlib.sha256(json.dumps(question).encode()).hexdigest()[:32]}.json"


def read_answer(path: Path) -> dict[str, Any] | None:
    """The answer; None if there is none, or if it was damaged by a power failure."""
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def keep_answer(path: Path, answer: dict[str, Any], work: str) -> None:
    """Keep an answer; where the cache cannot be written, warn that the next job repeats the ``work``: "checks the data"."""
    try:
        with disk_errors("write", path), atomic_write(path) as temporary:
            temporary.write_text(json.dumps(answer))
    except StorageError as error:  # such as the cache of another user, whose decoded images may be read all the same
        log.warning("%s; the next job %s again", error, work)
