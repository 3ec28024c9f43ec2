"""Which files of a working directory stay at home: what git ignores, what can be made again, what may be a secret."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum, auto
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from adjobs.errors import QueueError, one_line

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

OWN_FILE = ".adjobsignore"
"""Patterns as in ``.gitignore``; it has the last word, also about what may be a secret."""

_DEFAULT_PATTERNS = """
    .git  .hg/  .svn/  __pycache__/  *.py[co]  .cache/  .mypy_cache/  .ruff_cache/  .pytest_cache/  .hypothesis/
    .ipynb_checkpoints/  .venv/  venv/  node_modules/  .tox/  .nox/  build/  dist/  .eggs/  *.egg-info/  *.dist-info/
    .idea/  .vscode/  .DS_Store  mlruns/  .adjobs/
"""
_SECRET_PATTERNS = """
    .env  .env.*  *.env  *.pem  *.key  *.p12  *.pfx  *.jks  *.kdbx  id_rsa  id_dsa  id_ecdsa  id_ed25519
    .ssh/  .aws/  .kube/  .gnupg/  kubeconfig  .netrc  .pypirc  .npmrc  .pgpass  .git-credentials  .htpasswd  .dockercfg
    credentials  credentials.json  credentials.y*ml  secrets.json  secrets.y*ml  secrets.toml  secret.json  secret.y*ml
    token  *.token  *_token  *-token  token.txt  token.json
"""
_ENVIRONMENT_MARKS = ("pyvenv.cfg", "conda-meta")


class Fate(Enum):
    """What becomes of a file or folder."""

    TAKEN = auto()
    LEFT = auto()
    SECRET = auto()


class _Rules(NamedTuple):
    """Patterns of one folder, which is named relative to the root with a slash at its end, or is empty."""

    prefix: str
    git: GitIgnoreSpec
    own: GitIgnoreSpec


class IgnoreRules:
    """The rules that hold in a folder: those of its ignore files, and those of the folders above it."""

    def __init__(self, rules: Sequence[_Rules] = ()) -> None:
        self._rules = tuple(rules)  # the deepest folder first: its patterns win

    def inside(self, folder: Path, prefix: str) -> IgnoreRules:
        """The rules that hold in a folder.

        Args:
            folder: where its ignore files are.
            prefix: its path from the root with a slash at its end; empty for the root.

        Raises:
            QueueError: an ignore file cannot be read.
        """
        git, own = _read(folder / ".gitignore"), _read(folder / OWN_FILE)
        return self if not git and not own else IgnoreRules((_Rules(prefix, git, own), *self._rules))

    def fate(self, path: str) -> Fate:
        """What becomes of a file, or of a folder if the path, from the root, ends with a slash.

        >>> IgnoreRules().fate("src/model.py"), IgnoreRules().fate("keys/server.pem")
        (<Fate.TAKEN: 1>, <Fate.SECRET: 3>)
        """
        own = _first(rules.own.check_file(path.removeprefix(rules.prefix)).include for rules in self._rules)
        if own is not None:
            return Fate.LEFT if own else Fate.TAKEN
        git = _first(rules.git.check_file(path.removeprefix(rules.prefix)).include for rules in self._rules)
        if git or (git is None and _patterns(_DEFAULT_PATTERNS).match_file(path)):
            return Fate.LEFT
        return Fate.SECRET if _patterns(_SECRET_PATTERNS).match_file(path) else Fate.TAKEN


def is_environment(folder: Path) -> bool:
    """Whether a folder is a virtual environment of Python, whatever its name."""
    return any((folder / mark).exists() for mark in _ENVIRONMENT_MARKS)


@cache
def _patterns(text: str) -> GitIgnoreSpec:
    from pathspec import GitIgnoreSpec

    return GitIgnoreSpec.from_lines(text.split())


def _first(answers: Iterator[bool | None]) -> bool | None:
    return next((answer for answer in answers if answer is not None), None)


def _read(path: Path) -> GitIgnoreSpec:
    from pathspec import GitIgnoreSpec

    try:
        return GitIgnoreSpec.from_lines(path.read_text().splitlines() if path.is_file() else [])
    except (OSError, ValueError) as error:  # also text that is not UTF-8, and a pattern that is none
        raise QueueError(f"{path}: cannot be read as patterns ({one_line(error)}); correct or remove it") from error
