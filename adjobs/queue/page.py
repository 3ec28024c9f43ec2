"""The queue's page for a browser: one file that loads nothing from any other server, and that shows nothing without a token."""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import re
from urllib.parse import urlsplit

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

_INLINE = re.compile(r"<(style|script)>(.*?)</\1>", re.DOTALL)


def add_page(app: FastAPI) -> None:
    """Answer ``/`` with the page."""
    html = importlib.resources.files("adjobs.queue").joinpath("page.html").read_text(encoding="utf-8")
    headers = {
        "Content-Security-Policy": content_security_policy(html),
        "X-Frame-Options": "DENY",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    }

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    def page() -> HTMLResponse:
        """The queue in a browser."""
        return HTMLResponse(html, headers=headers)


def content_security_policy(html: str) -> str:
    """A policy that allows the page's own style and script, by their hashes, calls to its own server, and nothing else.

    >>> content_security_policy("<script></script>").split("; ")[1]
    "script-src 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
    """
    hashes: dict[str, list[str]] = {"script": [], "style": []}
    for tag, content in _INLINE.findall(html):
        hashes[tag].append(f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'")
    sources = [f"{tag}-src {' '.join(allowed)}" for tag, allowed in hashes.items() if allowed]
    fixed = ["connect-src 'self'", "img-src data:", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"]
    return "; ".join(["default-src 'none'", *sources, *fixed])


def link_base(tracking_uri: str) -> str | None:
    """The address of MLflow's pages, without a password; None if MLflow has no server.

    >>> link_base("http://ann:secret@mlflow:5000/"), link_base("sqlite:////home/ann/mlflow.db")
    ('http://mlflow:5000', None)
    """
    if not tracking_uri.startswith(("http://", "https://")):
        return None
    address = urlsplit(tracking_uri.rstrip("/"))
    return address._replace(netloc=address.netloc.rpartition("@")[2], query="", fragment="").geturl()
