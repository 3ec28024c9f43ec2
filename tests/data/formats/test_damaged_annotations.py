"""Annotation files with anything in them: reading gives samples, problems, or one line of DataError, and nothing else."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adjobs.data.formats import load_formats
from adjobs.data.images import ImageError
from adjobs.data.labels.masks import read_mask
from adjobs.data.reading import ReadContext
from adjobs.errors import DataError
from tests.helpers.layouts import LAYOUTS

FILES = {
    "coco": "annotations/instances_default.json",
    "labelstudio": "project-3-at-2026-01-31.json",
    "manifest": "manifest.jsonl",
    "yolo": "labels/train/bad.txt",
}

quick = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
TEXTS = ["", "x", "13", "../x.png", "a\0b\nc", "\ud800", "good00.jpg", "x" * 5000]
NUMBERS = [0, -1, 1, 13, 0.5, 1e308, 10**30, float("nan"), float("inf")]
LISTS = [[], [[]], [[1, 2, 3, 4]], [1, 2, 3, 4], [0.1, 0.1, 0.2, 0.2], [[0, 0, 9, 9, 9, 0]], [None] * 3]
OBJECTS = [{}, {"counts": [[]]}, {"size": [32, 32], "counts": [1024]}, {"size": [32, 32], "counts": "04"}]
odd_values = st.sampled_from([None, True, *TEXTS, *NUMBERS, *LISTS, *OBJECTS])


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A data set of each layout, drawn once; its annotation file is written again for each example."""
    return {name: LAYOUTS[name](tmp_path_factory.mktemp(name) / "set") for name in FILES}


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to everything in a JSON document."""
    keys = value.keys() if isinstance(value, dict) else range(min(len(value), 3)) if isinstance(value, list) else ()
    for key in keys:
        yield (*at, key)
        yield from places(value[key], (*at, key))


def damage(document: Any, data: st.DataObject) -> Any:
    """A copy with up to three places replaced, removed or doubled."""
    document = copy.deepcopy(document)
    for _ in range(data.draw(st.integers(1, 3))):
        *path, last = data.draw(st.sampled_from(list(places(document)) or [(0,)]))
        parent = document
        for key in path:
            parent = parent[key]
        action = data.draw(st.sampled_from(["replace", "replace", "remove", "double"]))
        if action == "replace" and parent:
            parent[last] = copy.deepcopy(data.draw(odd_values))
        elif action == "remove" and parent:
            del parent[last]
        elif isinstance(parent, list) and parent:
            parent.append(copy.deepcopy(parent[last]))
    return document


def assert_read(name: str, root: Path, text: str) -> None:
    """Read the data set with this annotation file."""
    (root / FILES[name]).write_bytes(text.encode("utf-8", "surrogatepass"))
    context = ReadContext()
    try:
        samples = load_formats()[name].read(root, context)
    except DataError as error:
        if "\n" in str(error):
            pytest.fail(f"several lines: {error}")
        return
    assert all("\n" not in problem.message and len(problem.message) <= 800 for problem in context.problems)
    invalid = {problem.sample for problem in context.problems if problem.severity == "error"}
    for sample in samples:
        if sample.mask is not None and sample.id not in invalid:
            try:
                read_mask(sample.mask)
            except ImageError:
                assert name == "manifest"  # which may name any file as a mask
        assert all(box.left < box.right and box.top < box.bottom for box in sample.boxes or ())


@quick
@given(data=st.data())
@pytest.mark.parametrize("name", ["coco", "labelstudio"])
def test_read_damaged_json(name, drawn, data):
    root = drawn[name]
    if not (root / "valid.txt").exists():
        (root / "valid.txt").write_text((root / FILES[name]).read_text())
    assert_read(name, root, json.dumps(damage(json.loads((root / "valid.txt").read_text()), data)))


@quick
@given(data=st.data())
def test_read_damaged_manifest(drawn, data):
    root = drawn["manifest"]
    if not (root / "valid.txt").exists():
        (root / "valid.txt").write_text((root / FILES["manifest"]).read_text())
    lines = damage([json.loads(line) for line in (root / "valid.txt").read_text().splitlines()][-8:], data)
    assert_read("manifest", root, "\n".join(map(json.dumps, lines)))


ODD_NUMBERS = ["0", "1", "7", "-1", "0.5", "0.25", "1e-9", "1e9", "nan", "inf", "x", "0.5.5", "٣", "1_0"]
number = st.sampled_from(ODD_NUMBERS) | st.floats(0, 1).map(str)


@quick
@given(st.lists(st.lists(number, max_size=9).map(" ".join) | st.text(max_size=20), max_size=4))
def test_read_damaged_yolo_lines(drawn, lines):
    assert_read("yolo", drawn["yolo"], "\n".join(lines))
