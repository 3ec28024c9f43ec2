"""Whether the services of the stack answer: what ``up`` waits for, and what ``status`` requests of those that run."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import threading
import time
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from adjobs.errors import StorageError
from adjobs.stack.credentials import BUCKET
from adjobs.stack.state import StackState
from adjobs.storage import Store, open_store

PATIENCE_SECONDS = 10.0
"""In which a service that runs must have answered ``status``; one on a busy machine may take some seconds."""

_REQUEST_SECONDS = 5.0

_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # proxies are for other machines


def answering(state: StackState, names: Iterable[str], seconds: float = PATIENCE_SECONDS) -> set[str]:
    """Those of some services that answer a client, with its credentials. All of them are called at the same time.

    Args:
        state: the record of the stack.
        names: of services that run.
        seconds: after which no answer is waited for any more.
    """
    confirmed: set[str] = set()

    def call(name: str) -> None:
        with contextlib.suppress(StorageError, OSError, LookupError):
            if _answers_client(state, name):
                confirmed.add(name)

    # Daemons: a client of S3 repeats its requests for longer than anybody wants to wait for a status.
    threads = [threading.Thread(target=call, args=(name,), daemon=True) for name in names]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return set(confirmed)


def _answers_client(state: StackState, name: str) -> bool:
    """Whether a service gives a client what it is for: a health check may answer while nothing behind it does."""
    url, environment = state.services[name].url, state.environment
    if name == "s3":
        return has_bucket(open_store(f"s3://{BUCKET}", environment))
    if name == "mlflow":
        return fetch(f"{url}/api/2.0/mlflow/experiments/search?max_results=1", mlflow_login(environment)) is not None
    if name == "ray":
        return has_ray_node(url, ray_token(environment))
    return answers(f"{url}/healthz")


def answers(url: str) -> bool:
    """Whether a GET is answered with 200."""
    return fetch(url) is not None


def has_bucket(store: Store) -> bool:
    """Whether S3 answers with the bucket; the server makes it shortly after it has become healthy."""
    try:
        store.exists("ready")
    except StorageError:
        return False
    return True


def has_ray_node(dashboard: str, token: str) -> bool:
    """Whether Ray has a living node; its dashboard answers before that, and also without any."""
    alive = "/api/v0/nodes?filter_keys=state&filter_predicates=%3D&filter_values=ALIVE"
    body = fetch(dashboard + alive, bearer(token))
    try:
        return bool(body and json.loads(body)["data"]["result"]["result"])
    except (ValueError, LookupError, TypeError):
        return False


def ray_token(environment: Mapping[str, str]) -> str:
    """The token with which clients of the stack call Ray; OSError if its file cannot be read."""
    return Path(environment["RAY_AUTH_TOKEN_PATH"]).read_text().strip()


def bearer(token: str) -> dict[str, str]:
    """The header of a request with a token."""
    return {"Authorization": f"Bearer {token}"}


def mlflow_login(environment: Mapping[str, str]) -> dict[str, str]:
    """The header of a request to MLflow by its user."""
    login = f"{environment['MLFLOW_TRACKING_USERNAME']}:{environment['MLFLOW_TRACKING_PASSWORD']}"
    return {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}


def fetch(url: str, headers: Mapping[str, str] | None = None, body: Mapping[str, Any] | None = None) -> bytes | None:
    """What a GET is answered with, or with a body a POST of that as JSON; None unless the status is 200."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **(headers or {})})
    try:
        with _opener.open(request, timeout=_REQUEST_SECONDS) as response:
            answer: bytes = response.read()
            return answer if response.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
