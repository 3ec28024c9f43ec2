"""What is read from the logs of processes; starting and stopping them is tested with the stack."""

from __future__ import annotations

from pathlib import Path

import pytest

from adjobs.errors import StackError
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


def test_check_ports_waits_for_one_that_no_process_has_any_more(monkeypatch):
    errors = [OSError("in use"), OSError("in use"), None]
    monkeypatch.setattr(processes, "_bind_error", lambda port: errors.pop(0))
    monkeypatch.setattr(processes, "_port_owner", lambda port: None)
    processes.check_ports({"S3": 1}, patience=10)
    assert errors == []


@pytest.mark.parametrize(("owner", "name"), [("python (process 7)", "python"), (None, "a process of another user")])
def test_check_ports_in_use_names_the_process_at_once_where_it_is_known(monkeypatch, owner, name):
    monkeypatch.setattr(processes, "_bind_error", lambda port: OSError("in use"))
    monkeypatch.setattr(processes, "_port_owner", lambda port: owner)
    with pytest.raises(StackError, match=f"port 1 .S3. is in use by {name}"):
        processes.check_ports({"S3": 1}, patience=3600 if owner else 0)
