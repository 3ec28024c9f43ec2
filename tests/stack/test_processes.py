"""What is read from the logs of processes; starting and stopping them is tested with the stack."""

from __future__ import annotations

from pathlib import Path

import pytest

from adjobs.stack import processes


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("I start\nTraceback:\n  File x\nKeyError: 'a'\nIf so, read the manual\n", "KeyError: 'a'"),
        ("I1 fine\nF1122 10:00 main.go:3 bind: address in use\n", "F1122 10:00 main.go:3 bind: address in use"),
        ("\x1b[31mone\x1b[0m\n\ntwo  \n\n", "two"),
        ("", "its log is empty"),
    ],
)
def test_last_error_line_prefers_a_line_that_names_an_error(tmp_path: Path, text: str, line: str) -> None:
    (tmp_path / "log").write_text(text)
    assert processes.last_error_line(tmp_path / "log") == line
