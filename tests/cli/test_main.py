"""The group of verbs: completion in shells, and ``python -m adjobs``."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from adjobs.cli.main import main


def complete(shell: str, words: str, current: str) -> str:
    env = {"_ADJOBS_COMPLETE": f"{shell}_complete", "COMP_WORDS": words, "COMP_CWORD": current}
    result = CliRunner().invoke(main, env=env, prog_name="adjobs")
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_is_printed_for_every_shell(shell: str) -> None:
    result = CliRunner().invoke(main, env={"_ADJOBS_COMPLETE": f"{shell}_source"}, prog_name="adjobs")
    assert "_adjobs_completion" in result.stdout


@pytest.mark.parametrize(
    ("shell", "words", "current"), [("bash", "adjobs t", "1"), ("zsh", "adjobs t", "1"), ("fish", "adjobs t", "t")]
)
def test_completion_finds_verbs_that_are_not_imported_yet(shell: str, words: str, current: str) -> None:
    stdout = complete(shell, words, current)
    assert all(verb in stdout for verb in ("threshold", "train", "tune"))
    assert "status" not in stdout


def test_completion_finds_options_and_values_of_a_verb() -> None:
    assert complete("bash", "adjobs train --lo", "2") == "plain,--local\n"
    assert complete("bash", "adjobs schema ", "2") == "plain,job\nplain,compare\nplain,space\nplain,retrain\n"


def test_help_shows_every_summary_in_full() -> None:
    text = CliRunner().invoke(main, ["--help"], terminal_width=80).stdout
    assert "Commands:" in text
    assert "..." not in text.partition("Commands:")[2]


def test_interrupted_import_of_a_verb_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("adjobs.cli.main.importlib.import_module", interrupted)
    result = CliRunner().invoke(main, ["train"])
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "stopped\n")


@pytest.mark.parametrize("module", ["click", "adjobs.cli.main"])
def test_interrupted_start_is_one_line(module: str) -> None:
    """As if Ctrl-C came while this module is imported."""
    script = (
        "import sys, signal, importlib.abc\n"
        "class Interrupt(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name == {module!r}: signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "from adjobs.__main__ import run\n"
        "run()"
    )
    completed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (completed.returncode, completed.stdout, completed.stderr) == (130, "", "stopped\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tune", "--seed", "-1"], "error: Invalid value for '--seed': -1 is not in the range"),
        (["train", "--lokal"], "error: No such option '--lokal'"),
        (["threshold", "x", "--policy", "best"], "error: Invalid value for '--policy': 'best' is not one of 'fixed', "),
        (["report"], "error: Missing argument 'RUN...'"),
        (["trian"], "error: No such command 'trian'"),
        (["--verbose", "train"], "error: No such option '--verbose'"),
        (["data", "chek", "x"], "error: No such command 'chek'"),
        (["predict", "x\n" * 1000], "error: Missing option '--model'"),
    ],
)
def test_wrong_option_or_argument_is_one_line(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main, arguments, prog_name="adjobs")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(message)
    assert result.stderr.endswith(" --help'\n")
    assert result.stderr.count("\n") == 1


def test_wrong_option_with_json_is_json() -> None:
    result = CliRunner().invoke(main, ["tune", "--json", "--seed", "-1"], prog_name="adjobs")
    assert json.loads(result.stdout)["error"].startswith("Invalid value for '--seed'")


@pytest.mark.parametrize("arguments", [[], ["data"]])
def test_group_without_a_verb_shows_its_help(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, arguments, prog_name="adjobs")
    assert result.exit_code == 2
    assert "Commands:" in result.output


def test_module_runs_the_command_line() -> None:
    completed = subprocess.run([sys.executable, "-m", "adjobs", "--help"], capture_output=True, text=True, check=True)
    assert completed.stdout.startswith("Usage: adjobs [OPTIONS]")
