"""Who may ask the queue for what: checked of each request's head, before its body is read."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Annotated, NamedTuple

from fastapi import Depends, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adjobs.errors import QueueDatabaseError
from adjobs.queue import tokens
from adjobs.queue.answers import RETRY_SECONDS
from adjobs.queue.client import MAX_BODY
from adjobs.queue.packing import MAX_ARCHIVE
from adjobs.queue.store import JobStore
from adjobs.queue.tokens import Identity, Role
from adjobs.web.buckets import FAILURES_AT_ONCE, FAILURES_PER_SECOND, TokenBuckets
from adjobs.web.key_file import digest as digest_of

REQUESTS_PER_SECOND, REQUESTS_AT_ONCE = 200.0, 2000
"""Of one token, on average and in a burst."""

TOKEN_SECONDS = 2.0
"""For which the tokens are not read again: one that is revoked is refused after them."""

BODY_LIMITS: dict[str, int] = {"/api/uploads": MAX_ARCHIVE}
"""Bytes of a request's body, by path, where another number than MAX_BODY holds."""

_HEADERS = [(b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"), (b"cache-control", b"no-store")]


class Refusal(NamedTuple):
    """Why a request is not answered."""

    status: int
    error: str
    headers: dict[str, str] | None = None


class Gate:
    """Lets requests in whose body has a bound, and whose token is right where one is needed; adds headers to every answer."""

    def __init__(self, app: ASGIApp, store: JobStore, clock: Callable[[], float] = time.monotonic) -> None:
        """In front of an application.

        Args:
            app: the application.
            store: where the tokens are.
            clock: in seconds.
        """
        self._app, self._store, self._clock = app, store, clock
        self._requests = TokenBuckets(REQUESTS_PER_SECOND, REQUESTS_AT_ONCE)
        self._failures = TokenBuckets(FAILURES_PER_SECOND, FAILURES_AT_ONCE)
        self._reading = asyncio.Lock()
        self._known: dict[str, Identity] = {}  # by hash of the token
        self._known_until = float("-inf")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            await send(message)

        refusal = await self._check(scope)
        answer = self._app if refusal is None else JSONResponse({"error": refusal.error}, refusal.status, refusal.headers)
        await answer(scope, receive, send_with_headers)

    async def _check(self, scope: Scope) -> Refusal | None:
        headers = Headers(scope=scope)
        size, limit = headers.get("content-length", "0"), BODY_LIMITS.get(scope["path"], MAX_BODY)
        if "transfer-encoding" in headers or not size.isdecimal() or int(size) > limit:
            return Refusal(413, f"the request must have a length, of at most {limit} bytes")
        if not scope["path"].startswith("/api/") and scope["path"] != "/metrics":
            return None
        scheme, _, token = headers.get("authorization", "").partition(" ")
        address = scope["client"][0] if scope.get("client") else ""
        identity = await self._identify(token.strip() if scheme.lower() == "bearer" else "", address)
        if isinstance(identity, Refusal):
            return identity
        scope.setdefault("state", {})["identity"] = identity
        return None

    async def _identify(self, token: str, address: str) -> Identity | Refusal:
        digest = digest_of(token)
        try:
            if self._known_until <= self._clock():
                await self._read_tokens()
            identity = self._known.get(digest)
            if identity is None:
                # One that was right before is not kept out by others at its address.
                if not self._requests.knows(digest) and (wait := self._failures.wait(address)):
                    return _too_many(wait, "too many requests without a right token from this address")
                identity = await run_in_threadpool(self._find, token) if token else None  # made a moment ago?
        except QueueDatabaseError as error:
            return Refusal(503, str(error), {"Retry-After": str(RETRY_SECONDS)})
        if identity is None:
            self._failures.take(address)
            problem = "the token is unknown or revoked" if token else "no token was sent"
            action = "ask an administrator for one ('adjobs token create') and set ADJOBS_QUEUE_TOKEN_PATH to its file"
            return Refusal(401, f"{problem}; {action}", {"WWW-Authenticate": "Bearer"})
        wait = self._requests.take(digest)
        return _too_many(wait, f"too many requests of {identity.user}") if wait else identity

    async def _read_tokens(self) -> None:
        async with self._reading:
            if self._known_until <= self._clock():  # nobody has read them while this request waited
                self._known = await run_in_threadpool(self._find_all)
                self._known_until = self._clock() + TOKEN_SECONDS

    def _find_all(self) -> dict[str, Identity]:
        with self._store.reading() as connection:
            return tokens.identities(connection)

    def _find(self, token: str) -> Identity | None:
        with self._store.reading() as connection:
            return tokens.identify(connection, token)


def _too_many(seconds: float, problem: str) -> Refusal:
    wait = math.ceil(seconds)
    return Refusal(429, f"{problem}; try again in {wait} s", {"Retry-After": str(wait)})


async def _viewer(request: Request, _: Annotated[object, Depends(HTTPBearer(auto_error=False))]) -> Identity:
    identity: Identity = request.state.identity  # by the gate; the bearer is for the description
    return identity


async def _submitter(identity: Annotated[Identity, Depends(_viewer)]) -> Identity:
    if identity.role is Role.VIEWER:
        raise HTTPException(403, f"{identity.user} is a viewer, who cannot change jobs; ask an administrator for another token")
    return identity


Viewer = Annotated[Identity, Depends(_viewer)]
"""Of an endpoint's argument: anybody with a right token."""
Submitter = Annotated[Identity, Depends(_submitter)]
"""Anybody who may submit jobs."""
