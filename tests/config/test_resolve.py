"""Whatever a job file, a mapping or an override holds: a job, or one line."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adjobs import methods
from adjobs.config.job import JobConfig
from adjobs.config.resolve import override, read_job, resolve
from adjobs.documents import dump_yaml
from adjobs.errors import AdjobsError
from tests.helpers.documents import ODD_VALUES, ODD_YAML, check_message

quick = settings(deadline=None, max_examples=60, derandomize=True)


def valid_document(method: str) -> dict[str, Any]:
    return resolve({"method": method, "data": {"uri": "images"}}).model_dump(mode="json")


PATHS = {
    method: [(key,) for key in document]
    + [(key, name) for key, section in document.items() if isinstance(section, dict) for name in section]
    for method, document in ((method, valid_document(method)) for method in methods.names())
}


@st.composite
def mutated_jobs(draw: st.DrawFn) -> dict[str, Any]:
    """A valid job in which up to four keys are removed, renamed or given another value."""
    method = draw(st.sampled_from(methods.names()))
    document = valid_document(method)
    for *parents, last in draw(st.lists(st.sampled_from(PATHS[method]), min_size=1, max_size=4)):
        section = document
        for key in parents:
            section = section[key] if isinstance(section.get(key), dict) else {}
        change = draw(st.sampled_from(["value", "remove", "rename", "duplicate"]))
        if change == "value":
            section[last] = draw(ODD_VALUES)
        elif change == "remove":
            section.pop(last, None)
        else:
            section[draw(st.text(max_size=8) | st.just("x" * 5000))] = section.pop(last, None) if change == "rename" else 1
    return document


def check(document: Any) -> None:
    try:
        job = resolve(override(document, ()), source="job file 'job.yaml'")
    except AdjobsError as error:
        check_message(error)
        return
    assert isinstance(job, JobConfig)
    assert resolve(copy.deepcopy(job.model_dump(mode="json"))) == job


@quick
@given(mutated_jobs())
def test_resolve_of_a_mutated_job_is_a_job_or_one_line(document: dict[str, Any]) -> None:
    check(document)


@quick
@given(document=st.dictionaries(st.sampled_from(["method", "data", "params", "train", "threshold", "x"]), ODD_VALUES))
def test_resolve_of_any_mapping_is_a_job_or_one_line(document: dict[str, Any]) -> None:
    check(document)


@quick
@given(
    key=st.sampled_from([".".join(path) for path in PATHS["cdo"]]) | st.text(max_size=12), text=ODD_YAML | st.text(max_size=12)
)
def test_override_of_any_expression_is_a_job_or_one_line(key: str, text: str) -> None:
    for setting in (f"{key}={text}", key):
        try:
            resolve(override({"method": "cdo", "data": {"uri": "images"}}, [setting]))
        except AdjobsError as error:
            check_message(error)


@quick
@given(
    method=st.sampled_from(methods.names()), position=st.floats(0, 1), text=ODD_YAML | st.text(max_size=6), cut=st.integers(0, 9)
)
def test_read_job_of_damaged_text_is_a_job_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, method: str, position: float, text: str, cut: int
) -> None:
    content = dump_yaml(valid_document(method))
    index = int(position * len(content))
    path = tmp_path_factory.getbasetemp() / "damaged.yaml"
    path.write_bytes((content[:index] + text + content[index + cut :]).encode("utf-8", "surrogatepass"))
    try:
        document = read_job(path)
    except AdjobsError as error:
        check_message(error)
        return
    check(document)
