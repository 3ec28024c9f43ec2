"""The generated reference is that of the code."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

SCRIPT = Path(__file__).parents[2] / "docs" / "generate_reference.py"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_reference", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pages_committed_files_are_up_to_date(generator):
    stale = [path.name for path, text in generator.pages().items() if path.read_text(encoding="utf-8") != text]
    assert not stale, "run: .venv/bin/python docs/generate_reference.py"


def test_job_file_page_every_parameter_of_every_method_is_listed(generator):
    from adjobs import methods

    page = generator.job_file_page()
    for name in methods.names():
        section = page.partition(f"### {name}\n")[2].partition("\n### ")[0]
        assert all(f"`params.{key}`" in section for key in methods.config_class(name).model_fields), name


def test_command_line_page_hidden_helpers_are_not_commands(generator):
    page = generator.command_line_page()
    assert "## adjobs train" in page
    assert "## adjobs data check" in page
    assert "## adjobs output" not in page


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (int | None, "whole number or null"),
        (Literal["a", "b"], "`a`, `b`"),
        (Annotated[float, Field(ge=0, le=64)] | Literal["auto"], "number, ≥ 0, ≤ 64 or `auto`"),
        (dict[str, int], "mapping"),
        (list[str], "list of text"),
    ],
)
def test_type_name_annotation_is_named_for_a_yaml_file(generator, annotation, expected):
    assert generator._type_name(annotation) == expected


def test_type_bounds_of_a_field_are_named(generator):
    class Model(BaseModel):
        size: int = Field(256, ge=32, multiple_of=32)

    assert generator._type(Model.model_fields["size"]) == "whole number, ≥ 32, a multiple of 32"
