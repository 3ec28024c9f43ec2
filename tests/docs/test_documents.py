"""What stands in the documents is true: links lead somewhere, commands and parameters exist, job files are valid."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml

from adjobs import methods
from adjobs.cli.main import main
from adjobs.config.resolve import resolve

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "adjobs/methods/*/README.md", "benchmarks/**/*.md", "findings/*.md")
    for path in ROOT.glob(pattern)
)
PROSE = [path for path in DOCUMENTS if "results" not in path.parts]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:)([^)\s]+)\)")
MOST_CARD_LINES = 90

documents = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
prose = pytest.mark.parametrize("path", PROSE, ids=lambda path: path.relative_to(ROOT).as_posix())


def blocks(path: Path, language: str) -> list[str]:
    return [body for name, body in FENCE.findall(path.read_text(encoding="utf-8")) if name == language]


def anchors(path: Path) -> set[str]:
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ +(.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", heading)).strip().lower().replace(" ", "-") for heading in headings}


def commands(path: Path) -> Iterator[list[str]]:
    """The words of every ``adjobs`` command in shell blocks."""
    for block in blocks(path, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0] == "adjobs":
                yield words


@documents
def test_links_lead_to_files_and_headings(path):
    for target in LINK.findall(FENCE.sub("", path.read_text(encoding="utf-8"))):
        file, _, anchor = target.partition("#")
        destination = path.parent / file if file else path
        assert destination.exists(), target
        if anchor:
            assert anchor in anchors(destination), target


@prose
def test_commands_exist_with_their_options(path):
    for words in commands(path):
        command: click.Command = main
        rest = words[1:]
        while isinstance(command, click.Group) and rest:
            subcommand = command.get_command(click.Context(command), rest[0])
            assert subcommand is not None, " ".join(words)
            command, rest = subcommand, rest[1:]
        options = {"--help", "--version"}.union(*(parameter.opts + parameter.secondary_opts for parameter in command.params))
        unknown = [word for word in rest if word.startswith("--") and word.partition("=")[0] not in options]
        assert not unknown, " ".join(words)


@prose
def test_job_keys_that_are_set_exist(path):
    for words in commands(path):
        settings = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
        method = words[words.index("--method") + 1] if "--method" in words else "cdo"
        for setting in settings:
            section, _, key = setting.partition("=")[0].partition(".")
            if section == "params":
                assert key in methods.config_class(method).model_fields or "synth" in words, setting
            else:
                resolve_fields = resolve({"method": "cdo", "data": {"uri": "x"}}).model_dump()
                assert key in resolve_fields[section], setting


@prose
def test_yaml_blocks_that_are_jobs_are_valid(path):
    for block in blocks(path, "yaml"):
        document = yaml.safe_load(block)
        if isinstance(document, dict) and {"method", "data"} <= set(document):
            resolve(document)


@documents
def test_nothing_private_is_mentioned(path):
    text = path.read_text(encoding="utf-8")
    assert not re.findall(r"/work/|/tmp/|/root/|#\d{1,3}\b(?!;)|pypi\.org|deb\.debian\.org|registry\.npmjs", text)


@pytest.mark.parametrize("name", methods.names())
def test_card_names_parameters_that_exist(name):
    card = (ROOT / "adjobs" / "methods" / name / "README.md").read_text(encoding="utf-8")
    assert len(card.splitlines()) <= MOST_CARD_LINES
    table = card.partition("| parameter | what it does |\n")[2].partition("\n\n")[0]
    listed = [key for row in table.splitlines()[1:] for key in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert listed
    fields = methods.config_class(name).model_fields
    assert [key for key in listed if key not in fields] == []
    named = re.findall(r"`(?:params\.)?(\w+): [^`]+`", card)  # such as `discrepancy: l2`
    assert [key for key in named if key not in fields and key not in ("budget",)] == []


def test_measurements_every_result_is_listed_once():
    index = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    for result in (ROOT / "benchmarks" / "results").glob("*.md"):
        assert index.count(f"(results/{result.name})") == 1, result.name
