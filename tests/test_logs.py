"""Log records say which run they belong to."""

from __future__ import annotations

import logging

from adjobs.logs import RunFormatter, run_context


def formatted(message: str) -> str:
    return RunFormatter().format(logging.LogRecord("adjobs", logging.INFO, "x.py", 1, message, None, None))


def test_run_formatter_inside_a_run_and_outside():
    assert formatted("waiting") == "waiting"
    with run_context("0123456789abcdef"):
        assert formatted("waiting") == "run 01234567: waiting"
        with run_context("fedcba9876543210"):
            assert formatted("waiting") == "run fedcba98: waiting"
    assert formatted("waiting") == "waiting"
