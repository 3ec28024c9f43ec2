"""The configurations for ``ray up``, and what all files for clusters have in common."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path

import jsonschema
import pytest

from adjobs.version import __version__
from tests.helpers.deploy import RAY_UP, ROOT, deployed_files, parse_command, read_documents, read_yaml, strings

GUIDE = ROOT / "docs" / "guides" / "cluster.md"
configurations = pytest.mark.parametrize("path", sorted(RAY_UP.glob("*.yaml")), ids=lambda path: path.stem)


@configurations
def test_ray_up_configuration_is_valid_for_ray(path):
    spec = find_spec("ray")
    assert spec is not None
    assert spec.origin is not None
    schema = json.loads((Path(spec.origin).parent / "autoscaler" / "ray-schema.json").read_text())
    configuration = read_yaml(path)
    if configuration["provider"]["type"] == "local":
        del configuration["min_workers"]  # which Ray moves into its only type of node before it validates
    jsonschema.validate(configuration, schema)


@configurations
def test_ray_up_mounts_files_that_exist_or_are_made(path):
    made = {f"dist/adjobs-{__version__}-py3-none-any.whl", "cluster/ray-up/environment", "docker/secrets/ray_token"}
    configuration = read_yaml(path)
    for local in configuration["file_mounts"].values():
        assert local in made or (ROOT / local).is_file(), local
    commands = " ".join(strings([configuration["setup_commands"], configuration["head_start_ray_commands"]]))
    used = set(re.findall(r"~/adjobs/(?!venv)([\w.-]*\w)", commands))
    assert used == {Path(remote).name for remote in configuration["file_mounts"]}


def test_ray_up_environment_has_what_jobs_need():
    names = re.findall(r"^(\w+)=", (RAY_UP / "environment.example").read_text(), re.MULTILINE)
    login = {"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"}
    needed = {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH", "MLFLOW_TRACKING_URI", "ADJOBS_ARTIFACTS", "AWS_ENDPOINT_URL"}
    assert needed | {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "PATH"} | login == set(names)


def test_yaml_files_have_no_key_twice():
    files = [path for path in deployed_files() if path.suffix == ".yaml"]
    assert len(files) > 15
    for path in files:
        assert all(isinstance(document, dict) for document in read_documents(path)), path


def test_variables_of_adjobs_exist_in_the_code():
    code = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "adjobs").rglob("*.py")))
    known = set(re.findall(r"\bADJOBS_[A-Z_]+\b", code))
    for path in [*deployed_files(), GUIDE]:
        used = {name.removesuffix("_FILE") for name in re.findall(r"\bADJOBS_[A-Z_]+\b", path.read_text(encoding="utf-8"))}
        assert used <= known, path


def test_commands_in_comments_exist():
    for path in deployed_files():
        for line in re.findall(
            r"^#.*\b(adjobs (?:account|token|dispatch|submit|jobs|train) .+)$", path.read_text(), re.MULTILINE
        ):
            parse_command(line.split())


def test_no_image_is_the_latest():
    for path in [*deployed_files(), GUIDE]:
        assert ":latest" not in path.read_text(encoding="utf-8"), path


def test_scripts_stop_at_errors():
    scripts = [path for path in deployed_files() if path.read_text(encoding="utf-8").startswith("#!")]
    assert len(scripts) == 4
    for path in scripts:
        assert "\nset -eu\n" in path.read_text(), path
        assert path.stat().st_mode & 0o111 == 0o111, path
