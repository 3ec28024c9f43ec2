from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adjobs.data.dataset import Sample, fingerprint
from adjobs.data.formats.manifest import read
from adjobs.data.labels.masks import Box, Layers, Shapes
from adjobs.data.manifest_lines import write_line
from adjobs.data.open import open_dataset
from adjobs.data.reading import ReadContext
from adjobs.errors import DataError
from tests.helpers.drawing import draw_manifest, save, texture
from tests.helpers.layouts import LAYOUTS

LINE = {"image": "a.png", "label": "anomalous"}


@pytest.fixture
def root(tmp_path):
    """A folder with one file under every name that the tests need."""
    for name in ["a.png", "b.png", "deep/ä ö.png", "m.png", "kinds.json"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def read_valid(root: Path) -> list[Sample]:
    context = ReadContext()
    samples = read(root, context)
    assert context.problems == []
    return samples


def read_lines(root: Path, *lines: object) -> list[Sample]:
    (root / "manifest.jsonl").write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    return read_valid(root)


def read_csv(root: Path, text: str) -> list[Sample]:
    (root / "manifest.csv").write_text(text, encoding="utf-8")
    return read_valid(root)


def problems_of(root: Path, name: str, text: str) -> list[tuple[str, str]]:
    """(sample, message) of the problems of a manifest."""
    (root / name).write_text(text, encoding="utf-8")
    context = ReadContext()
    read(root, context)
    assert {problem.kind for problem in context.problems} <= {"annotation"}
    return [(problem.sample, problem.message) for problem in context.problems]


def test_read_json_lines_with_all_keys(root):
    first, second, third = read_lines(
        root,
        {**LINE, "mask": "m.png", "defect": "dent", "group": "7", "split": "test", "sha256": "not read here"},
        {"image": "deep/ä ö.png", "label": "normal", "mask": None, "boxes": []},
        {"image": "b.png", "label": "unlabelled", "blocks": "m.png", "boxes": [[0, 1.5, 2, 3]]},
    )
    assert first == Sample("a.png", root / "a.png", "anomalous", root / "m.png", "dent", "7", "test")
    assert second == Sample("deep/ä ö.png", root / "deep" / "ä ö.png", "normal", boxes=())
    assert third == Sample("b.png", root / "b.png", "unlabelled", blocks=root / "m.png", boxes=(Box(0, 1.5, 2, 3),))


def test_read_masks_as_layers_and_outlines(root):
    outline = {"segmentations": [[[0, 0, 4, 0, 4, 4]], {"size": [8, 9], "counts": [72]}], "width": 9, "height": 8}
    layers, plain, shapes = read_lines(
        root,
        {**LINE, "mask": ["m.png", "b.png"], "kinds": "kinds.json"},
        {**LINE, "image": "b.png", "mask": ["m.png"]},
        {**LINE, "image": "m.png", "mask": outline},
    )
    assert layers.mask == Layers((root / "m.png", root / "b.png"), root / "kinds.json")
    assert plain.mask == Layers((root / "m.png",))
    assert shapes.mask == Shapes(("[[0, 0, 4, 0, 4, 4]]", '{"size": [8, 9], "counts": [72]}'), 9, 8)


def test_read_csv_of_a_spreadsheet(root):
    text = '\ufeffimage,label,mask,boxes,group\r\na.png,anomalous,m.png,,\r\n\r\nb.png,anomalous,,"[[0, 1, 2, 3]]",left\r\n'
    first, second = read_csv(root, text)
    assert first == Sample("a.png", root / "a.png", "anomalous", root / "m.png")
    assert second == Sample("b.png", root / "b.png", "anomalous", boxes=(Box(0, 1, 2, 3),), group="left")


paths = st.sampled_from(["a.png", "b.png", "deep/ä ö.png", "m.png"]).map(Path)
numbers = st.floats(0, 500) | st.integers(0, 500)
boxes = st.tuples(numbers, numbers, st.integers(501, 900), st.integers(501, 900)).map(lambda edges: Box(*edges))
outlines = st.lists(st.lists(numbers, min_size=6, max_size=6), min_size=1, max_size=2).map(json.dumps)
fields = {
    "label": st.sampled_from(["normal", "anomalous", "unlabelled"]),
    "mask": st.none()
    | paths
    | st.builds(Layers, st.lists(paths, min_size=1, max_size=3).map(tuple), st.none() | st.just(Path("kinds.json")))
    | st.builds(Shapes, st.lists(outlines, max_size=2).map(tuple), st.just(500), st.just(500)),
    "defect": st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    "group": st.none() | st.text(min_size=1, max_size=5),
    "published_split": st.none() | st.sampled_from(["train", "val", "test"]),
    "blocks": st.none() | paths,
    "boxes": st.none() | st.lists(boxes, max_size=2).map(tuple),
}


@given(values=st.fixed_dictionaries(fields), image=paths)
def test_write_line_is_read_as_the_same_sample(values, image, tmp_path_factory):
    root = tmp_path_factory.getbasetemp() / "written"
    for name in ["a.png", "b.png", "deep/ä ö.png", "m.png", "kinds.json"]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()

    def in_root(value):
        if isinstance(value, Layers):
            return Layers(tuple(map(in_root, value.paths)), in_root(value.kinds))
        return root / value if isinstance(value, Path) else value

    sample = Sample(image.as_posix(), root / image, **{key: in_root(value) for key, value in values.items()})
    (read_sample,) = read_lines(root, write_line(sample, root))
    assert read_sample == sample
    # Equal numbers of different types would give another fingerprint.
    assert json.dumps(read_sample.boxes) == json.dumps(sample.boxes)


@pytest.mark.parametrize("name", LAYOUTS)
def test_write_line_every_layout_can_be_written(name, tmp_path):
    root = LAYOUTS[name](tmp_path / "set")
    dataset = open_dataset(str(root), name, cache=Path("unused"))
    (root / "manifest.jsonl").write_text("".join(json.dumps(write_line(sample, root)) + "\n" for sample in dataset.samples))
    (root / "adjobs-dataset.json").unlink(missing_ok=True)  # of a data set with versions, which takes precedence
    reopened = open_dataset(str(root), cache=Path("unused"))
    assert reopened == replace(dataset, format="manifest", problems=(), normal_classes=(), version=None)
    assert fingerprint(reopened) == fingerprint(dataset)


def test_write_line_file_outside_the_folder_is_refused(root):
    sample = Sample("a.png", root / "a.png", "anomalous", root.parent / "m.png")
    with pytest.raises(DataError, match=r"m.png: is not in .*; a manifest can only name files beside it; copy them there first$"):
        write_line(sample, root)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lable": "x"}, r"unknown key 'lable'; available: blocks, .*; did you mean 'label'\?"),
        ({"image": None}, r"key 'image' is missing; image and label are required"),
        ({"label": None}, r"key 'label' is missing"),
        ({"label": "bad"}, r"label is 'bad'; available: anomalous, normal, unlabelled"),
        ({"label": 1}, r"label is 1; it must be text"),
        ({"split": "valid"}, r"split is 'valid'; available: test, train, val; did you mean 'val'\?"),
        ({"part": "val"}, r"unknown key 'part'; available: "),
        ({"group": 7}, r"group is 7; it must be text"),
        ({"image": "../a.png"}, r"path '../a.png' is not inside the data set; allowed are relative paths without \.\."),
        ({"image": "/etc/passwd"}, r"path '/etc/passwd' is not inside the data set"),
        ({"image": ""}, r"path '' is not inside the data set"),
        ({"image": "c.png"}, r'image "c.png" does not exist; expected the path of a file beside the manifest'),
        ({"image": "x" * 5000}, r"does not exist"),
        ({"image": "b\0"}, r"does not exist"),
        ({"mask": 3}, r"mask 3 does not exist"),
        ({"mask": []}, r"mask \[\] does not exist"),
        ({"mask": ["m.png", 1]}, r"mask 1 does not exist"),
        ({"mask": ["m.png", "../m.png"]}, r"path '../m.png' is not inside"),
        ({"mask": "m.png", "kinds": "kinds.json"}, r"kinds is set without a list of masks"),
        ({"mask": ["m.png"], "kinds": "k.json"}, r'kinds "k.json" does not exist'),
        ({"mask": {"segmentations": []}}, r"mask is an object; expected \{\"segmentations\": \[…\], \"width\": 640"),
        (
            {"mask": {"segmentations": [[[1, 2]]], "width": 9, "height": 9}},
            r"polygon is \[1, 2\]; expected x, y, x, y, … of three",
        ),
        ({"blocks": ["m.png"]}, r'blocks \["m.png"\] does not exist'),
        ({"boxes": [1, 2, 3, 4]}, r"boxes contains 1; expected \[left, top, right, bottom\] in pixels, left < right"),
        ({"boxes": {}}, r"boxes contains \{\}; expected"),
        ({"boxes": [[1, 2, 3]]}, r"boxes contains \[1, 2, 3\]; expected"),
        ({"boxes": [[3, 2, 1, 4]]}, r"boxes contains \[3, 2, 1, 4\]; expected"),
        ({"boxes": [[1, 2, float("nan"), 4]]}, r"boxes contains \[1, 2, NaN, 4\]; expected"),
        ({"image": "b.png"}, r"image b.png is on line 1 already; each image must have one line"),
    ],
)
def test_read_invalid_value_names_its_line(change, message, root):
    text = "".join(json.dumps(line) + "\n" for line in ({**LINE, "image": "b.png"}, LINE | change))
    ((sample, problem),) = problems_of(root, "manifest.jsonl", text)
    # An image that cannot be found is named by its line.
    assert sample == {"a.png": "a.png", "b.png": "b.png"}.get((LINE | change)["image"], "manifest.jsonl: line 2")
    whole = problem if sample.endswith("png") else f"{sample}: {problem}"
    assert re.search(rf"^manifest.jsonl: line 2: .*{message}.*; fix it$", whole)


def test_read_all_problems_are_found_at_once(root):
    lines = [{**LINE, "label": 1, "split": "valid", "mask": "none.png"}, {"image": "c.png"}, LINE | {"image": "b.png"}, "?"]
    problems = problems_of(root, "manifest.jsonl", "".join(json.dumps(line) + "\n" for line in lines) + "[")
    assert [sample for sample, _ in problems] == ["a.png"] * 3 + [f"manifest.jsonl: line {n}" for n in (2, 2, 4, 5)]
    (root / "manifest.jsonl").unlink()
    assert len(problems_of(root, "manifest.csv", "image,label\na.png,bad\nb.png\nc.png,bad\n")) == 4


def test_read_file_names_in_another_unicode_form_are_matched(root):
    (sample,) = read_lines(root, {"image": unicodedata.normalize("NFD", "deep/ä ö.png"), "label": "normal"})
    assert sample.id == "deep/ä ö.png"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('\n{"image": }', r"^manifest.jsonl: line 2: is not valid JSON \(.*\); fix it$"),
        ("[1]", r"^manifest.jsonl: line 1: is \[1\]; expected \{\"image\": …, \"label\": …\}; fix it$"),
        ("[" * 100_000, r"^manifest.jsonl: line 1: is not valid JSON \(maximum recursion depth"),
    ],
)
def test_read_invalid_json_line_is_an_error(text, message, root):
    ((sample, problem),) = problems_of(root, "manifest.jsonl", text)
    assert re.search(message, f"{sample}: {problem}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "image,lable\na.png,normal\n",
            r"manifest.csv: line 1: unknown key 'lable'; .*; did you mean 'label'\?; fix the header$",
        ),
        ("image;label\na.png;normal\n", r"line 1: unknown key 'image;label'"),
        ('image,label\na.png,"nor\n', r"line 2 is not valid CSV \(unexpected end of data\); fix its quotes$"),
    ],
)
def test_read_invalid_csv_names_its_line(text, message, root):
    with pytest.raises(DataError, match=message):
        read_csv(root, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,label\na.png\n", r"^manifest.csv: line 2: has 1 cells, the header has 2; the numbers must be equal; fix it$"),
        ("image,label,boxes\na.png,normal,\nb.png,anomalous,1 2\n", r"line 3: boxes are not valid JSON \(.*\); fix it$"),
        ("image,label\na.png,bad\n", r"^a.png: manifest.csv: line 2: label is 'bad'; available: anomalous"),
        ("image\na.png\n", r"^a.png: manifest.csv: line 2: key 'label' is missing"),
    ],
)
def test_read_invalid_csv_line_is_an_error(text, message, root):
    ((sample, problem),) = problems_of(root, "manifest.csv", text)
    assert re.search(message, f"{sample}: {problem}")


def test_read_two_or_unreadable_manifests_are_refused(root):
    assert read_csv(root, "") == []
    with pytest.raises(
        DataError, match=r": contains no images; allowed are .*, laid out as manifest: manifest.jsonl or manifest.csv"
    ):
        open_dataset(str(root), cache=Path("unused"))
    (root / "manifest.jsonl").write_text("")
    with pytest.raises(DataError, match=r"has 2 of manifest.jsonl and manifest.csv; expected one; remove the other$"):
        read(root, ReadContext())
    (root / "manifest.csv").unlink()
    (root / "manifest.jsonl").write_bytes(b"\xff")
    with pytest.raises(
        DataError, match=r"manifest.jsonl: cannot be read \(.*invalid start byte\); .*text file in UTF-8; restore it$"
    ):
        read(root, ReadContext())


def test_read_unlisted_files_are_ignored(tmp_path):
    draw_manifest(tmp_path)
    save(tmp_path / "images" / "other.png", texture(16, np.random.default_rng(0)))
    assert "images/other.png" not in {sample.id for sample in read(tmp_path, ReadContext())}


def test_read_empty_group_is_none(root):
    assert read_lines(root, {"image": "a.png", "label": "normal", "group": ""})[0].group is None


def test_read_repeated_csv_key_is_refused(root):
    with pytest.raises(DataError, match=r"line 1: key 'label' is repeated; each key must occur once; fix the header$"):
        read_csv(root, "image,label,label\na.png,normal,anomalous\n")
