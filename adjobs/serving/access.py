"""Who is let in: checked of each request's head, before its body is read; adds headers and counts to every answer."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adjobs.serving.limits import RefusalError
from adjobs.serving.metrics import ServingMetrics
from adjobs.web.buckets import FAILURES_AT_ONCE, FAILURES_PER_SECOND, TokenBuckets
from adjobs.web.key_file import matches

OPEN_PATHS = ("/", "/docs", "/openapi.json", "/healthz", "/readyz", "/v2/health/live", "/v2/health/ready")
"""Pages and probes, which need no key: they show nothing of images, and of the model only whether it is ready."""

_HEADERS = [(b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"), (b"cache-control", b"no-store")]


class Gate:
    """Lets requests in that have a right key, where one is needed."""

    def __init__(self, app: ASGIApp, key_digests: Sequence[str], metrics: ServingMetrics) -> None:
        """In front of an application.

        Args:
            app: the application.
            key_digests: of the keys that are let in; none: everybody is.
            metrics: that count the answers.
        """
        self._app, self._digests, self._metrics = app, tuple(key_digests), metrics
        self._failures = TokenBuckets(FAILURES_PER_SECOND, FAILURES_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_at, status = time.perf_counter(), 500

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            await send(message)

        refusal = self._check(scope)
        answer = self._app if refusal is None else JSONResponse(refusal.content, refusal.status, self._headers(refusal))
        if refusal is not None:
            self._metrics.refused.labels(refusal.reason).inc()
        try:
            await answer(scope, receive, send_with_headers)
        finally:
            route = getattr(scope.get("route"), "path", "refused" if refusal else "other")
            self._metrics.requests.labels(route, status).inc()
            self._metrics.request_seconds.labels(route).observe(time.perf_counter() - started_at)

    def _check(self, scope: Scope) -> RefusalError | None:
        if not self._digests or scope["path"] in OPEN_PATHS:
            return None
        scheme, _, key = Headers(scope=scope).get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and matches(key.strip(), self._digests):
            return None
        address = scope["client"][0] if scope.get("client") else ""
        if wait := self._failures.take(address):
            message = f"too many requests without a right key from this address; try again in {math.ceil(wait)} s"
            return RefusalError(429, "key", message, retry_after=wait)
        problem = "the key is not one of this server" if key else "no key was sent"
        return RefusalError(401, "key", f"{problem}; send the header 'Authorization: Bearer KEY'")

    @staticmethod
    def _headers(refusal: RefusalError) -> dict[str, str]:
        return refusal.headers if refusal.retry_after else {"WWW-Authenticate": "Bearer"}
