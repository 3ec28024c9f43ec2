"""Pages for a browser: one file each, that loads nothing from any other server."""

from __future__ import annotations

import base64
import hashlib
import re

_INLINE = re.compile(r"<(style|script)>(.*?)</\1>", re.DOTALL)


def page_headers(html: str) -> dict[str, str]:
    """Headers of an answer with a page: only its own style and script run, and no other page may frame it."""
    return {
        "Content-Security-Policy": content_security_policy(html),
        "X-Frame-Options": "DENY",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    }


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
