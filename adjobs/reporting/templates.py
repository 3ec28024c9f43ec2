"""Jinja templates of the pages. All pages escape what comes from outside, and embed all that they show."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined


def environment() -> Environment:
    """An environment that finds the templates of this package by name."""
    loader = PackageLoader("adjobs", "reporting")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
