"""The JSON schemas for editors accept what adjobs accepts and find misspelt keys."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from jsonschema import Draft7Validator, ValidationError

from adjobs import methods
from adjobs.cli.main import main
from adjobs.comparison.config import parse_comparison
from adjobs.config.resolve import resolve
from adjobs.errors import JobError
from adjobs.retraining.config import parse_retraining

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


def all_messages(faults: Iterable[ValidationError]) -> list[str]:
    """Also the messages of what was tried in vain."""
    return [message for fault in faults for message in (fault.message, *all_messages(fault.context))]


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


COMPARISON = {
    "compare": {"budget": "2h", "methods": ["cdo", {"method": "semirest", "name": "masks", "params": {"supervision": "masks"}}]},
    "data": {"uri": "elpv", "image_size": 256},
    "track": {"experiment": "line-3"},
}


def guide_example(page: str) -> dict[str, Any]:
    (block, *_) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "guides" / page).read_text(), re.DOTALL)
    return yaml.safe_load(block)


@pytest.mark.parametrize("kind", ["job", "compare"])
def test_schema_accepts_comparisons(kind: str) -> None:
    validator = Draft7Validator(schema(kind))
    Draft7Validator.check_schema(schema(kind))
    resolved = json.loads(parse_comparison(COMPARISON).model_dump_json())
    for document in (COMPARISON, guide_example("comparing.md"), resolved, {"compare": {}}):
        assert errors(validator, document) == []


@pytest.mark.parametrize("kind", ["job", "compare"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "cdo"}, "'method' was unexpected|False schema does not allow 'cdo'"),
        ({"params": {}}, "'params' was unexpected|False schema does not allow {}"),
        ({"train": {"max_seconds": 60}}, "60 is not of type 'null'"),
        ({"compare": {"bugdet": "2h"}}, "'bugdet' was unexpected"),
        ({"compare": {"methods": ["cod"]}}, "'cod' is not one of"),
        ({"compare": {"methods": [{"method": "cdo", "params": {"gama": 1}}]}}, "'gama' was unexpected"),
        ({"compare": {"methods": []}}, "non-empty"),
    ],
)
def test_schema_finds_what_a_comparison_refuses(kind: str, change: dict[str, Any], message: str) -> None:
    document = {**COMPARISON, **change}
    messages = all_messages(Draft7Validator(schema(kind)).iter_errors(document))
    assert any(re.search(message, text) for text in messages), messages
    with pytest.raises(JobError):
        parse_comparison(document).first_job  # noqa: B018


def test_job_schema_without_compare_requires_a_method(job: Draft7Validator) -> None:
    assert errors(job, {"data": {"uri": "x"}}) == ["'method' is a required property"]


RETRAINING = {"model": "line", "dataset": "sets/line", "job": {"method": "cdo", "data": {"image_size": 64}}}


@pytest.fixture(scope="module")
def retraining() -> Draft7Validator:
    Draft7Validator.check_schema(schema("retrain"))
    return Draft7Validator(schema("retrain"))


def test_retraining_schema_accepts_retrainings(retraining: Draft7Validator) -> None:
    resolved = json.loads(parse_retraining(RETRAINING).model_dump_json())
    for document in (RETRAINING, {**RETRAINING, "job": "job.yaml"}, guide_example("retraining.md"), resolved):
        assert errors(retraining, document) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"wen": {}}, "'wen' was unexpected"),
        ({"when": {"new_labels": 0}}, "0 is less than the minimum"),
        ({"gate": {"recal_margin": 0.1}}, "'recal_margin' was unexpected"),
        ({"start_from": "scrath"}, "'scrath' is not one of"),
        ({"job": {"method": "cod"}}, "'cod' is not one of"),
        ({"job": {"method": "cdo", "params": {"gama": 1}}}, "'gama' was unexpected"),
        ({"job": {"method": "cdo", "data": {"uri": "x"}}}, "'x' is not of type 'null'"),
        ({"job": {"method": "cdo", "track": {"model": "m"}}}, "'m' is not of type 'null'"),
        ({"job": {"method": "cdo", "track": None}}, "None is not of type 'object'"),
        ({"job": 5}, "5 is not of type 'string'"),
        ({"webhook": {}}, "not valid under any"),
    ],
)
def test_retraining_schema_finds_what_a_retraining_refuses(
    retraining: Draft7Validator, change: dict[str, Any], message: str
) -> None:
    document = {**RETRAINING, **change}
    messages = all_messages(retraining.iter_errors(document))
    assert any(message in text for text in messages), messages
    with pytest.raises(JobError):
        parse_retraining(document)


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
