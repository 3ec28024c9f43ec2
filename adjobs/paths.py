"""Paths as users write them."""

from __future__ import annotations

import os
from pathlib import Path


def expand_home(path: str | Path) -> Path:
    """A path with the home folder in place of ``~`` or ``~user``; one of an unknown user is kept as it is, as in shells."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 (Path.expanduser raises RuntimeError for unknown users)
