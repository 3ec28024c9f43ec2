"""The page on which an engineer shows an image to the model, and the page that describes the interface."""

from __future__ import annotations

import importlib.resources

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from adjobs.web.page import page_headers


def add_pages(app: FastAPI) -> None:
    """Answer ``/`` and ``/docs``."""
    for path, name in (("/", "page.html"), ("/docs", "docs.html")):
        _add_page(app, path, importlib.resources.files("adjobs.serving").joinpath(name).read_text(encoding="utf-8"))


def _add_page(app: FastAPI, path: str, html: str) -> None:
    headers = page_headers(html)

    @app.get(path, response_class=HTMLResponse, include_in_schema=False)
    def page() -> HTMLResponse:
        """A page for a browser."""
        return HTMLResponse(html, headers=headers)
