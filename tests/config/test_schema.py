"""The JSON schemas for editors accept what adjobs accepts and find misspelt keys."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from jsonschema import Draft7Validator

from adjobs import methods
from adjobs.cli.main import main
from adjobs.config.resolve import resolve
from adjobs.errors import JobError

ROOT = Path(__file__).parents[2]
JOB_FILES = sorted([*ROOT.glob("examples/*.yaml"), *ROOT.glob("benchmarks/jobs/*.yaml")])


def schema(kind: str) -> dict[str, Any]:
    result = CliRunner().invoke(main, ["schema", kind])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def job() -> Draft7Validator:
    Draft7Validator.check_schema(schema("job"))
    return Draft7Validator(schema("job"))


@pytest.fixture(scope="module")
def space() -> Draft7Validator:
    Draft7Validator.check_schema(schema("space"))
    return Draft7Validator(schema("space"))


def errors(validator: Draft7Validator, document: object) -> list[str]:
    return [error.message for error in validator.iter_errors(document)]


@pytest.mark.parametrize("path", JOB_FILES, ids=lambda path: path.name)
def test_job_schema_accepts_the_job_files_of_the_repository(job: Draft7Validator, path: Path) -> None:
    assert errors(job, yaml.safe_load(path.read_text())) == []


def test_job_schema_accepts_the_job_files_of_the_readme(job: Draft7Validator) -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    blocks = [
        block for page in pages for block in re.findall(r"```yaml\n((?:#.*\n)*method: .*?)```", page.read_text(), re.DOTALL)
    ]
    jobs = [document for block in blocks if "parameters" not in (document := yaml.safe_load(block))]
    assert jobs
    assert [errors(job, document) for document in jobs] == [[]] * len(jobs)


@pytest.mark.parametrize("method", methods.names())
def test_job_schema_accepts_resolved_jobs_of_every_method_and_preset(job: Draft7Validator, method: str) -> None:
    for preset in (None, *methods.presets(method)):
        resolved = resolve({"method": method, "data": {"uri": "elpv"}, "preset": preset})
        assert errors(job, json.loads(resolved.model_dump_json())) == []


@pytest.mark.parametrize("method", methods.names())
def test_job_schema_has_the_parameters_of_every_method(method: str) -> None:
    document = schema("job")
    (then,) = [rule["then"] for rule in document["allOf"] if rule["if"]["properties"]["method"]["const"] == method]
    assert then["properties"]["params"] == {"$ref": f"#/definitions/{method}"}
    params = document["definitions"][method]["properties"]
    assert set(params) == set(methods.config_class(method).model_fields)
    assert all(param["description"] for param in params.values())
    assert then["properties"]["preset"]["enum"] == [*sorted(methods.presets(method)), None]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trian": {}}, "'trian' was unexpected"),
        ({"method": "cod"}, "'cod' is not one of"),
        ({"params": {"gama": 1}}, "'gama' was unexpected"),
        ({"params": {"gamma": -1}}, "-1 is less than the minimum"),
        ({"preset": "papr"}, "'papr' is not one of"),
        ({"data": {"ur": "x"}}, "'ur' was unexpected"),
        ({"data": {"uri": "x", "format": "mvtek"}}, "'mvtek' is not one of"),
        ({"data": {"uri": "x", "protocol": "hold"}}, "'hold' is not one of"),
        ({"data": {"uri": "x", "image_size": 33}}, "33 is not a multiple of 32"),
    ],
)
def test_job_schema_finds_what_a_job_refuses(job: Draft7Validator, change: dict[str, Any], message: str) -> None:
    document = {"method": "cdo", "data": {"uri": "elpv"}, **change}
    (error,) = errors(job, document)
    assert message in error
    if "format" not in str(change) and "protocol" not in str(change):  # these are refused when the data is opened
        with pytest.raises(JobError):
            resolve(document)


@pytest.mark.parametrize("path", sorted(ROOT.glob("tune_spaces/*.yaml")), ids=lambda path: path.name)
def test_space_schema_accepts_the_spaces_of_the_repository(space: Draft7Validator, path: Path) -> None:
    assert errors(space, yaml.safe_load(path.read_text())) == []


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "non-empty"),
        ({"params.gama": {"uniform": [0, 1]}}, "'params.gama' was unexpected"),
        ({"data.seed": {"randint": [0, 1]}}, "'data.seed' was unexpected"),
        ({"params.gamma": {"unifrom": [0, 1]}}, "'unifrom' was unexpected"),
        ({"params.gamma": {"uniform": [0, 1], "choice": [1]}}, "is valid under each of"),
        ({"params.gamma": {"uniform": [0, 1, 2]}}, "is too long"),
        ({"params.lr": {"loguniform": [0, 1]}}, "less than or equal to the minimum"),
        ({"params.last_level": {"randint": [0.5, 1]}}, "is not of type 'integer'"),
        ({"params.backbone": {"choice": ["vgg"]}}, "'vgg' is not one of"),
        ({"params.gamma": {"uniform": [0, 1], "when": {"params.last_level": {}}}}, "is not valid under any of"),
    ],
)
def test_space_schema_finds_mistakes(space: Draft7Validator, parameters: dict[str, Any], message: str) -> None:
    assert any(message in error for error in errors(space, {"method": "cdo", "parameters": parameters}))


def test_schema_out_writes_the_schema_to_a_file(tmp_path: Path) -> None:
    out = tmp_path / "schemas" / "job.schema.json"
    result = CliRunner().invoke(main, ["schema", "job", "--out", str(out)])
    assert result.stdout == f"schema of the job file in {out}\n"
    assert json.loads(out.read_text()) == schema("job")


def test_schema_json_is_one_line() -> None:
    result = CliRunner().invoke(main, ["schema", "space", "--json"])
    assert result.stdout.count("\n") == 1
    assert json.loads(result.stdout) == schema("space")
