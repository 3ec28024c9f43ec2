"""Every command of README.md runs here, or it is said why not."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import pytest
import yaml
from click.testing import CliRunner

from adjobs import methods
from adjobs.cli.main import main
from adjobs.config.resolve import resolve
from tests.helpers.drawing import draw_folder

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
ELSEWHERE = {
    "make setup": "this test runs in what it makes",
    ". .venv/bin/activate": "the tests call the programs of .venv by their paths",
    "make demo": "trains for minutes; tests/integration runs the same verbs on small data",
    "make test": "runs this test",
    "make bench": "measures for minutes",
    "adjobs up": "tests/integration/conftest.py",
    "adjobs status": "tests/integration/test_stack.py",
    "adjobs down": "tests/integration/conftest.py",
    "adjobs tune examples/elpv.yaml --space tune_spaces/cdo.yaml --trials 30 --hours 2": "tests/integration/test_tuning.py",
    "adjobs tune --resume NAME": "tests/integration/test_tuning.py",
    'eval "$(adjobs status --env)"': "tests/integration/test_stack.py reads the same lines",
    "cd examples && ray job submit --working-dir . -- adjobs train elpv.yaml": "tests/integration/test_training.py",
}
LOCAL = "adjobs train examples/elpv.yaml --local"
# What makes a training small; appended to the command, so that the command's own words are all read.
SMALL = {
    "data.image_size": 64,
    "data.max_train_anomalies": "null",  # the drawn pictures have ten anomalies
    "params.backbone": "resnet18",
    "params.weights": "none",
    "params.epochs": 1,
    "params.steps": 4,
    "params.refine_steps": 4,
    "track.model": "null",
}


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[str]:
    lines = [line.split("  #")[0].strip() for block in blocks("bash") for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with the examples, and pictures of one's own."""
    root = tmp_path_factory.mktemp("readme")
    (root / "examples").symlink_to(ROOT / "examples")
    draw_folder(root / "drawn", 20, 10)
    (root / "pictures").symlink_to(root / "drawn" / "bad")
    return root


@pytest.fixture(scope="module")
def run(place):
    """Run one command of the README in ``place``, made small, without any stack.

    What trains through Ray is a process of its own; the others run in this one, which has PyTorch and MLflow loaded already.
    """
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW", "ADJOBS", "RAY", "AWS"))}
    environment = bare | {"ADJOBS_HOME": str(place / "home")}

    def go(command: str, **placeholders: str) -> Done:
        words = [placeholders.get(word, word) for word in shlex.split(command)]
        if words[1] == "train" and "--resume" not in words:
            method = words[words.index("--method") + 1] if "--method" in words else "cdo"  # of the example
            fields = methods.config_class(method).model_fields
            small = {key: v for key, v in SMALL.items() if not key.startswith("params.") or key[len("params.") :] in fields}
            words += [item for key, value in small.items() for item in ("--set", f"{key}={value}")]
            words += ["--set", f"data.uri={place / 'drawn'}"]
            if "--method" in words:  # the job file goes through Ray, and once is enough
                words.append("--local")
        if words[1] == "train" and not {"--local", "--resume"} & set(words):
            words[0] = str(Path(sys.executable).with_name(words[0]))
            done = subprocess.run(words, cwd=place, env=environment, capture_output=True, text=True, check=False, timeout=400)
            return Done(done.returncode, done.stdout, done.stderr)
        with contextlib.chdir(place), mock.patch.dict(os.environ, environment, clear=True):
            result = CliRunner().invoke(main, words[1:], catch_exceptions=False)
        return Done(result.exit_code, result.stdout, result.stderr)

    return go


@pytest.fixture(scope="module")
def trained(run) -> Done:
    """What the README's job file gives, trained in one process."""
    return run(LOCAL)


def test_there_are_commands_and_nothing_is_excused_that_is_gone():
    assert len(commands()) > 10
    assert set(ELSEWHERE) <= set(commands())


@pytest.mark.slow
@pytest.mark.parametrize("command", [command for command in commands() if command not in ELSEWHERE])
def test_command(run, trained, command):
    found = re.search(r"^run +(\w+)", trained.stdout, re.MULTILINE)
    assert found, trained.stderr
    done = trained if command == LOCAL else run(command, RUN=found[1])
    if "--resume" in command:
        assert "is FINISHED, there is nothing to resume" in done.stderr
    else:
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()


@pytest.mark.parametrize("block", blocks("yaml"))
def test_job_file(block):
    assert resolve(yaml.safe_load(block)).data.uri


def test_links_lead_somewhere():
    for text in [README, *(path.read_text() for path in (ROOT / "docs").glob("*.md")), (ROOT / "CONTRIBUTING.md").read_text()]:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
            assert (ROOT / target).exists(), target


def test_every_format_and_method_is_in_the_readme():
    from adjobs.data import formats

    for name in [*methods.names(), *formats.load_formats()]:
        assert f"`{name}`" in README
