"""Every command of README.md runs here, or it is said why not."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
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
from tests.helpers.folders import delete_unless_failed

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
TUNE = "adjobs tune examples/elpv.yaml --space tune_spaces/cdo.yaml --trials 30 --time-budget 2h"
ELSEWHERE = {
    "make setup && . .venv/bin/activate": "this test runs in what it makes",
    "make demo": "trains for minutes; tests/integration runs the same verbs on small data",
    "make docs": "tests/docs checks links and generated pages; the site needs an environment of its own",
    "make test-fast": "runs this test",
    "make test": "runs this test",
    "make bench": "measures for minutes",
    "adjobs drift RUN images/": "tests/cli/test_drift.py; eleven images cannot tell",
    "adjobs retrain retrain.yaml": "tests/retraining/test_kills.py",
    "adjobs label suggest RUN images/ --out tasks.json": "tests/labelling and tests/cli/test_label.py; these images are labelled",
    "adjobs serve RUN": "tests/serving/test_server.py; it runs until it is stopped",
    "adjobs up": "tests/integration/conftest.py",
    "adjobs status": "tests/integration/test_stack.py",
    "adjobs down": "tests/integration/conftest.py",
    "adjobs submit examples/elpv.yaml": "tests/integration/test_queue.py",
    "adjobs jobs list": "tests/integration/test_queue.py",
    "adjobs jobs logs -f JOB": "tests/integration/test_queue.py",
    TUNE: "tests/integration/test_tuning.py",
    "adjobs tune --resume NAME": "tests/integration/test_tuning.py",
    'eval "$(adjobs status --env)"': "tests/integration/test_stack.py",
    "cd examples && ray job submit --working-dir . -- adjobs train elpv.yaml": "tests/integration/test_training.py",
}
LOCAL = "adjobs train examples/elpv.yaml --local"
# What makes a training small; appended to the command, so that the command's own words are all read.
SMALL = {
    "data.image_size": 64,
    "data.max_train_anomalies": "null",  # the drawn data have ten anomalies
    "params.backbone": "resnet18",
    "params.weights": "none",
    "params.epochs": 1,
    "params.steps": 4,
    "params.refine_steps": 4,
}


class CommandResult(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[str]:
    lines = [line.split(" #")[0].strip() for block in blocks("bash") for line in block.splitlines()]
    return [line for line in lines if line]


def small_settings(method: str) -> dict[str, object]:
    """Settings that make a training of a method small."""
    fields = methods.config_class(method).model_fields
    return {key: value for key, value in SMALL.items() if not key.startswith("params.") or key[len("params.") :] in fields}


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, request) -> Iterator[Path]:
    """A folder with the examples, the search spaces, and images of one's own."""
    root = tmp_path_factory.mktemp("readme")
    (root / "examples").symlink_to(ROOT / "examples")
    draw_folder(root / "drawn", 20, 10)
    shutil.copytree(root / "drawn" / "bad", root / "images")
    shutil.copytree(root / "drawn", root / "bottles")
    shutil.copy(root / "drawn" / "good" / "000.png", root / "images" / "cell.png")
    yield root
    delete_unless_failed(root, request)


@pytest.fixture(scope="module")
def environment(workdir) -> dict[str, str]:
    """Without any stack."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW", "ADJOBS", "RAY", "AWS"))}
    return bare | {"ADJOBS_HOME": str(workdir / "home")}


@pytest.fixture(scope="module")
def run(workdir, environment):
    """Run one command of the README in ``workdir``, made small.

    What trains through Ray is a process of its own; the others run in this one, which has PyTorch and MLflow loaded already.
    """

    def run_command(command: str, **placeholders: str) -> CommandResult:
        words = [placeholders.get(word, word) for word in shlex.split(command)]
        if words[1] == "train" and "--resume" not in words:
            method = words[words.index("--method") + 1] if "--method" in words else "cdo"  # of the example
            words += [item for key, value in small_settings(method).items() for item in ("--set", f"{key}={value}")]
            words += ["--set", f"data.uri={workdir / 'drawn'}"]
            if "--method" in words:  # the job file goes through Ray, and once is enough
                words.append("--local")
        if words[1] == "train" and not {"--local", "--resume"} & set(words):
            words[0] = str(Path(sys.executable).with_name(words[0]))
            done = subprocess.run(words, cwd=workdir, env=environment, capture_output=True, text=True, check=False, timeout=400)
            return CommandResult(done.returncode, done.stdout, done.stderr)
        with contextlib.chdir(workdir), mock.patch.dict(os.environ, environment, clear=True):
            result = CliRunner().invoke(main, words[1:], catch_exceptions=False)
        return CommandResult(result.exit_code, result.stdout, result.stderr)

    return run_command


@pytest.fixture(scope="module")
def trained(run) -> CommandResult:
    """What the README's job file gives, trained in one process."""
    return run(LOCAL)


def test_readme_has_commands_and_excuses_none_that_is_gone():
    assert len(commands()) > 10
    assert set(ELSEWHERE) <= set(commands())


@pytest.mark.slow
@pytest.mark.parametrize("command", [command for command in commands() if command not in ELSEWHERE])
def test_readme_command_runs(run, trained, command):
    run_id = re.search(r"^run +(\w+)", trained.stdout, re.MULTILINE)
    assert run_id, trained.stderr
    result = trained if command == LOCAL else run(command, RUN=run_id[1])
    if "--resume" in command:
        assert "is FINISHED, there is nothing to resume" in result.stderr
    else:
        assert result.returncode == 0, result.stderr
        assert result.stdout.strip()


@pytest.mark.slow
@pytest.mark.parametrize("block", blocks("python"))
def test_readme_python_runs(block, workdir, environment, capsys):
    small = [f"{key}={value}" for key, value in {**small_settings("cdo"), "data.uri": workdir / "drawn"}.items()]
    assert "overrides=[" in block
    code = block.replace('["params.epochs=3"]', repr(small))
    with contextlib.chdir(workdir), mock.patch.dict(os.environ, environment, clear=True):
        exec(compile(code, "README.md", "exec"), {})
    auroc, decision = capsys.readouterr().out.split()
    assert 0 <= float(auroc) <= 1
    assert decision in ("normal", "anomalous")


@pytest.mark.parametrize("block", blocks("yaml"))
def test_readme_job_file_is_valid(block):
    assert resolve(yaml.safe_load(block)).data.uri


def test_readme_names_every_method():
    for name in methods.names():
        assert f"`{name}`" in README
