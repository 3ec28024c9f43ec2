"""What all HTTP clients share: what they send reaches the addressed server and no other."""

from __future__ import annotations

import urllib.request
from typing import Any
from urllib.parse import urlsplit

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments: Any) -> None:
        """Refuse: Python would send tokens to the other server as well, and make a GET of a POST."""


def make_opener(url: str, *, use_proxy: bool = True) -> urllib.request.OpenerDirector:
    """What opens addresses of a server: without redirects, and without a proxy for servers of this machine.

    Args:
        url: address of the server.
        use_proxy: whether the proxy of the environment, if any, leads to it.
    """
    is_local = urlsplit(url).hostname in LOOPBACK
    proxies = [] if use_proxy and not is_local else [urllib.request.ProxyHandler({})]
    return urllib.request.build_opener(_NoRedirects, *proxies)
