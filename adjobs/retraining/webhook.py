"""The summary of a pass, sent to an address: signed, and repeated while the receiver does not accept it."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from adjobs.errors import JobError, one_line
from adjobs.http import make_opener

log = logging.getLogger(__name__)

PAUSES = (1.0, 4.0, 16.0)
"""Seconds between tries."""

_SECONDS = 10.0
_MIN_KEY_BYTES = 16
_FINAL = range(400, 500)  # the client is to blame
_LATER = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)


def read_key(path: str) -> bytes:
    """The key of the signature, without white space around it.

    Raises:
        JobError: the file cannot be read, or the key is too short.
    """
    try:
        key = Path(path).read_bytes().strip()
    except OSError as error:
        raise JobError(f"webhook.secret_file '{path}': cannot be read ({error.strerror}); give a file with the key") from error
    if len(key) < _MIN_KEY_BYTES:
        raise JobError(f"webhook.secret_file '{path}': has {len(key)} bytes; write a key of {_MIN_KEY_BYTES} or more")
    return key


def sign(key: bytes, timestamp: str, body: bytes) -> str:
    """The signature of a message: HMAC with SHA-256 over time, a full stop and body, in hexadecimal digits."""
    return hmac.new(key, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def send(
    url: str,
    key: bytes | None,
    summary: Mapping[str, Any],
    identifier: str,
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.time,
) -> bool:
    """Send a summary; returns whether the receiver accepted it.

    Args:
        url: of the receiver.
        key: of the signature; None: not signed.
        summary: JSON.
        identifier: the same whenever the same summary is sent, so that the receiver can tell.
        sleep: waits between tries.
        clock: seconds since the epoch.
    """
    body = json.dumps(dict(summary), sort_keys=True).encode()
    opener = make_opener(url)
    for pause in (*PAUSES, None):
        problem, is_final = _post(opener, url, _headers(key, body, identifier, clock), body)
        if problem is None:
            return True
        log.warning("webhook %s: %s%s", url, problem, "" if pause is None or is_final else f"; again in {pause:.0f} s")
        if is_final:
            return False
        if pause is not None:
            sleep(pause)
    return False


def _headers(key: bytes | None, body: bytes, identifier: str, clock: Callable[[], float]) -> dict[str, str]:
    timestamp = f"{clock():.0f}"
    headers = {"Content-Type": "application/json", "X-Adjobs-Delivery": identifier, "X-Adjobs-Timestamp": timestamp}
    return headers if key is None else {**headers, "X-Adjobs-Signature": f"sha256={sign(key, timestamp, body)}"}


def _post(opener: urllib.request.OpenerDirector, url: str, headers: Mapping[str, str], body: bytes) -> tuple[str | None, bool]:
    """What went wrong, if anything, and whether it would go wrong again."""
    request = urllib.request.Request(url, data=body, headers=dict(headers), method="POST")
    try:
        with opener.open(request, timeout=_SECONDS):
            return None, True
    except urllib.error.HTTPError as error:
        with error:
            is_final = error.code < _FINAL.start or (error.code in _FINAL and error.code not in _LATER)
            return f"answers {error.code} {error.reason}", is_final
    except (OSError, ValueError) as error:
        return f"does not answer ({one_line(error)})", False
