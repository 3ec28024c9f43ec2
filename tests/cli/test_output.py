"""What all verbs share."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from tqdm import tqdm

from adjobs.cli.output import VerbResult, table, verb
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


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_verb_signal_unwinds_it_and_gives_its_status(number: signal.Signals, status: int) -> None:
    unwound = []

    def command() -> VerbResult:
        try:
            signal.raise_signal(number)
        finally:
            unwound.append(True)
        return {}, ""

    before = signal.getsignal(number)
    result = invoke(command)
    assert (result.exit_code, result.stderr, unwound) == (status, "stopped\n", [True])
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_verb_that_does_not_unwind_is_ended(number: signal.Signals) -> None:
    """A thread waits forever, and so does what joins it."""
    script = (
        "import signal, threading, click\n"
        "from adjobs.cli import signals, output\n"
        "signals.SECONDS_TO_STOP = 0.1\n"
        "def command():\n"
        "    thread = threading.Thread(target=threading.Event().wait)\n"
        "    thread.start()\n"
        "    try:\n"
        f"        signal.raise_signal({int(number)})\n"
        "    finally:\n"
        "        thread.join()\n"
        "click.command()(output.verb(command))()"
    )
    completed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert (completed.returncode, completed.stdout, completed.stderr) == (128 + number, "", "stopped\n")


def test_verb_ignored_signals_stay_ignored() -> None:
    """As under nohup, and in the background of a shell."""

    def command() -> VerbResult:
        signal.raise_signal(signal.SIGINT)
        return {}, "done"

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert invoke(command).stdout == "done\n"
    finally:
        signal.signal(signal.SIGINT, before)


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


def test_table_row_is_one_line_whatever_is_in_a_file_name() -> None:
    assert table([["a\nb\x1b[31m.png", "1"]], ["image", "score"]).splitlines() == ["image         score", "a b [31m.png  1"]


def test_verb_line_beside_a_bar_in_a_log_file_is_a_line_of_its_own():
    @click.command()
    @verb
    def command() -> VerbResult:
        with tqdm(total=3, desc="distil", file=sys.stderr, disable=False):
            logging.getLogger("adjobs.jobs").info("storing the model ...")
        logging.getLogger("adjobs.jobs").info("done")
        return {}, ""

    result = CliRunner().invoke(command, [])
    lines = result.stderr.split("\n")
    assert "storing the model ..." in lines
    assert "done" in lines
    assert "" not in lines[:-1]
