"""The queue's page for a browser: one file that loads nothing from any other server, and that shows nothing without a token."""

from __future__ import annotations

import importlib.resources
from urllib.parse import urlsplit

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from adjobs.web.page import page_headers


def add_page(app: FastAPI) -> None:
    """Answer ``/`` with the page."""
    html = importlib.resources.files("adjobs.queue").joinpath("page.html").read_text(encoding="utf-8")
    headers = page_headers(html)

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    def page() -> HTMLResponse:
        """The queue in a browser."""
        return HTMLResponse(html, headers=headers)


def link_base(tracking_uri: str) -> str | None:
    """The address of MLflow's pages, without a password; None if MLflow has no server.

    >>> link_base("http://ann:secret@mlflow:5000/"), link_base("sqlite:////home/ann/mlflow.db")
    ('http://mlflow:5000', None)
    """
    if not tracking_uri.startswith(("http://", "https://")):
        return None
    address = urlsplit(tracking_uri.rstrip("/"))
    return address._replace(netloc=address.netloc.rpartition("@")[2], query="", fragment="").geturl()
