"""What all verbs share."""

from __future__ import annotations

import json
import logging
import signal
from dataclasses import dataclass
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from adjobs.cli.output import VerbResult, verb
from adjobs.errors import DataError, Stopped


@dataclass(frozen=True)
class Score:
    value: float

    def to_dict(self) -> dict[str, Any]:
        return {"value": self.value}


def invoke(function: Any, *options: str) -> Result:
    return CliRunner().invoke(click.command()(verb(function)), options)


def test_verb_prints_text_or_the_json_of_its_result() -> None:
    def command() -> VerbResult:
        return Score(float("nan")), "a text", 1

    assert (invoke(command).stdout, invoke(command).exit_code) == ("a text\n", 1)
    assert invoke(command, "--json").stdout == '{"value": null}\n'


def test_verb_logs_to_stderr_and_keeps_stdout_for_the_result() -> None:
    def command() -> VerbResult:
        logging.getLogger("adjobs.test").info("step %d", 1)
        logging.getLogger("adjobs.test").debug("detail")
        print("from a library")
        return {}, "text"

    result = invoke(command)
    assert result.stdout == "text\n"
    assert result.stderr == "step 1\nfrom a library\n"
    assert logging.getLogger("adjobs").handlers == []


def test_verb_sigterm_unwinds_it_and_gives_its_own_status() -> None:
    unwound = []

    def command() -> VerbResult:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            unwound.append(True)
        return {}, ""

    before = signal.getsignal(signal.SIGTERM)
    result = invoke(command)
    assert (result.exit_code, result.stderr, unwound) == (143, "stopped\n", [True])
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (DataError("no images"), 2, "error: no images"),
        (
            FileNotFoundError(2, "No such file or directory", "x.yaml"),
            2,
            "error: x.yaml: No such file or directory; check the path",
        ),
        (MemoryError(), 2, "error: not enough memory; end other programs"),
        (Stopped("stopped; resume with --resume x"), 130, "stopped; resume with --resume x"),
        (KeyboardInterrupt(), 130, "stopped"),
    ],
)
def test_verb_error_is_one_line(error: BaseException, status: int, line: str) -> None:
    def command() -> VerbResult:
        raise error

    result = invoke(command, "--json")
    assert result.exit_code == status
    assert result.stderr.startswith(line)
    assert result.stderr.count("\n") == 1
    assert json.loads(result.stdout)["error"] in result.stderr
