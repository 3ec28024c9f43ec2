"""Jinja templates of the pages. All pages escape what comes from outside, and embed all that they show."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def environment() -> Environment:
    """An environment that finds the templates of this package by name."""
    loader = PackageLoader("adjobs", "reporting")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def data_uri(content: bytes, kind: Literal["png", "jpeg"] = "png") -> str:
    """An image as an address that holds it, for pages that need nothing from outside."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def figure_png(figure: Figure) -> bytes:
    """A figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
