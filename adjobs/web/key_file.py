"""Secrets that clients send, and the files that hold them."""

from __future__ import annotations

import hashlib
import hmac
import stat
from collections.abc import Iterable
from pathlib import Path

from adjobs.errors import ServerError

MIN_LENGTH = 32
"""Characters of a secret; those of a file that holds none are fewer."""

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def digest(secret: str) -> str:
    """What is kept of a secret. SHA-256 is enough: secrets are random, and long enough that guessing them is hopeless."""
    return hashlib.sha256(secret.encode()).hexdigest()


def matches(secret: str, digests: Iterable[str]) -> bool:
    """Whether a secret is one of those with these digests, in a time that depends on their number alone."""
    own = digest(secret)
    equal = [hmac.compare_digest(own, other) for other in digests]
    return any(equal)


def read_digests(path: Path, option: str) -> tuple[str, ...]:
    """Digests of the keys in a file, one a line; several allow to change them without refusing anybody.

    Args:
        path: of the file, that nobody but its owner may read.
        option: that named it, for errors.

    Raises:
        ServerError: others may read it, it cannot be read, or holds something else.
    """
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise ServerError(f"{option} {path}: is no file; give a file with a key of {MIN_LENGTH} or more characters")
        if mode & _OTHERS:
            raise ServerError(f"{option} {path}: others may read it (mode {stat.S_IMODE(mode):04o}); run: chmod 600 {path}")
        lines = path.read_text(encoding="ascii").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ServerError(f"{option} {path}: cannot be read ({error}); give a file with a key in each line") from error
    keys = [line.strip() for line in lines if line.strip()]
    short = [len(key) for key in keys if len(key) < MIN_LENGTH or not key.isprintable() or " " in key]
    if short or not keys:
        problem = f"holds a key of {short[0]} characters" if short else "holds no key"
        make = f"python -c 'import secrets; print(secrets.token_urlsafe(32))' > {path.name}"
        raise ServerError(f"{option} {path}: {problem}; {MIN_LENGTH} or more without spaces are needed; make one with: {make}")
    return tuple(map(digest, keys))
