from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adjobs.data.dataset import Sample, fingerprint
from adjobs.data.formats.manifest import read, write_line
from adjobs.data.labels.masks import Box, Layers, Shapes
from adjobs.data.open import open_dataset
from adjobs.errors import DataError
from tests.helpers.drawing import LAYOUTS, draw_manifest, save, texture

LINE = {"image": "a.png", "label": "anomalous"}


@pytest.fixture
def root(tmp_path):
    """A folder with one file under every name that the tests need."""
    for name in ["a.png", "b.png", "deep/ä ö.png", "m.png", "kinds.json"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def lines_of(root: Path, *lines: object) -> list[Sample]:
    (root / "manifest.jsonl").write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    return read(root)


def csv_of(root: Path, text: str) -> list[Sample]:
    (root / "manifest.csv").write_text(text, encoding="utf-8")
    return read(root)


def test_all_that_a_line_can_say(root):
    one, two, three = lines_of(
        root,
        {**LINE, "mask": "m.png", "defect": "dent", "group": "7", "part": "test", "sha256": "not read here"},
        {"image": "deep/ä ö.png", "label": "normal", "mask": None, "boxes": []},
        {"image": "b.png", "label": "unlabelled", "blocks": "m.png", "boxes": [[0, 1.5, 2, 3]]},
    )
    assert one == Sample("a.png", root / "a.png", "anomalous", root / "m.png", "dent", "7", "test")
    assert two == Sample("deep/ä ö.png", root / "deep" / "ä ö.png", "normal", boxes=())
    assert three == Sample("b.png", root / "b.png", "unlabelled", blocks=root / "m.png", boxes=(Box(0, 1.5, 2, 3),))


def test_masks_of_several_images_and_as_outlines(root):
    outline = {"segmentations": [[[0, 0, 4, 0, 4, 4]], {"size": [8, 9], "counts": [72]}], "width": 9, "height": 8}
    layers, plain, shapes = lines_of(
        root,
        {**LINE, "mask": ["m.png", "b.png"], "kinds": "kinds.json"},
        {**LINE, "image": "b.png", "mask": ["m.png"]},
        {**LINE, "image": "m.png", "mask": outline},
    )
    assert layers.mask == Layers((root / "m.png", root / "b.png"), root / "kinds.json")
    assert plain.mask == Layers((root / "m.png",))
    assert shapes.mask == Shapes(("[[0, 0, 4, 0, 4, 4]]", '{"size": [8, 9], "counts": [72]}'), 9, 8)


def test_csv_as_spreadsheets_write_it(root):
    text = '\ufeffimage,label,mask,boxes,group\r\na.png,anomalous,m.png,,\r\n\r\nb.png,anomalous,,"[[0, 1, 2, 3]]",left\r\n'
    one, two = csv_of(root, text)
    assert one == Sample("a.png", root / "a.png", "anomalous", root / "m.png")
    assert two == Sample("b.png", root / "b.png", "anomalous", boxes=(Box(0, 1, 2, 3),), group="left")


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
    "part": st.none() | st.sampled_from(["train", "val", "test"]),
    "blocks": st.none() | paths,
    "boxes": st.none() | st.lists(boxes, max_size=2).map(tuple),
}


@given(values=st.fixed_dictionaries(fields), image=paths)
def test_a_line_written_is_read_as_the_same_sample(values, image, tmp_path_factory):
    root = tmp_path_factory.getbasetemp() / "written"
    for name in ["a.png", "b.png", "deep/ä ö.png", "m.png", "kinds.json"]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()

    def at_root(value):
        if isinstance(value, Layers):
            return Layers(tuple(map(at_root, value.paths)), at_root(value.kinds))
        return root / value if isinstance(value, Path) else value

    sample = Sample(image.as_posix(), root / image, **{key: at_root(value) for key, value in values.items()})
    (found,) = lines_of(root, write_line(sample, root))
    assert found == sample
    # Equal numbers of different types would give another fingerprint.
    assert json.dumps(found.boxes) == json.dumps(sample.boxes)


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_data_set_can_be_written_as_a_manifest(name, tmp_path):
    root = LAYOUTS[name](tmp_path / "set")
    index = open_dataset(str(root), name, cache=Path("unused"))
    (root / "manifest.jsonl").write_text("".join(json.dumps(write_line(sample, root)) + "\n" for sample in index.samples))
    again = open_dataset(str(root), cache=Path("unused"))
    assert again == replace(index, format="manifest")
    assert fingerprint(again) == fingerprint(index)


def test_a_file_elsewhere_cannot_be_written(root):
    sample = Sample("a.png", root / "a.png", "anomalous", root.parent / "m.png")
    with pytest.raises(DataError, match=r"m.png: is not in .*; a manifest names files beside it; copy them there first$"):
        write_line(sample, root)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lable": "x"}, r"key 'lable' is unknown; have blocks, .*; did you mean label\?"),
        ({"image": None}, r"key 'image' is missing; image and label are needed"),
        ({"label": None}, r"key 'label' is missing"),
        ({"label": "bad"}, r"label is 'bad'; have anomalous, normal, unlabelled"),
        ({"label": 1}, r"label is 1; allowed is text"),
        ({"part": "valid"}, r"part is 'valid'; have test, train, val; did you mean val\?"),
        ({"group": 7}, r"group is 7; allowed is text"),
        ({"image": "../a.png"}, r"path '../a.png' is not inside the data set; allowed are relative paths without \.\."),
        ({"image": "/etc/passwd"}, r"path '/etc/passwd' is not inside the data set"),
        ({"image": ""}, r"path '' is not inside the data set"),
        ({"image": "c.png"}, r'image "c.png" is not there; allowed is the path of a file beside the manifest'),
        ({"image": "x" * 5000}, r"File name too long"),
        ({"image": "b\0"}, r"is not there"),
        ({"mask": 3}, r"mask 3 is not there"),
        ({"mask": []}, r"mask \[\] is not there"),
        ({"mask": ["m.png", 1]}, r"mask 1 is not there"),
        ({"mask": ["m.png", "../m.png"]}, r"path '../m.png' is not inside"),
        ({"mask": "m.png", "kinds": "kinds.json"}, r"kinds is given without a list of masks"),
        ({"mask": ["m.png"], "kinds": "k.json"}, r'kinds "k.json" is not there'),
        ({"mask": {"segmentations": []}}, r"mask is an object; allowed are \{\"segmentations\": \[…\], \"width\": 640"),
        ({"mask": {"segmentations": [[[1, 2]]], "width": 9, "height": 9}}, r"got polygon \[1, 2\]; allowed are x and y of three"),
        ({"blocks": ["m.png"]}, r'blocks \["m.png"\] is not there'),
        ({"boxes": [1, 2, 3, 4]}, r"boxes has 1; allowed is a list of \[left, top, right, bottom\] in pixels, left < right"),
        ({"boxes": {}}, r"boxes has \{\}; allowed"),
        ({"boxes": [[1, 2, 3]]}, r"boxes has \[1, 2, 3\]; allowed"),
        ({"boxes": [[3, 2, 1, 4]]}, r"boxes has \[3, 2, 1, 4\]; allowed"),
        ({"boxes": [[1, 2, float("nan"), 4]]}, r"boxes has \[1, 2, NaN, 4\]; allowed"),
        ({"image": "b.png"}, r"image b.png is on line 1 already; allowed is one line for an image"),
    ],
)
def test_every_mistake_names_its_line(change, message, root):
    with pytest.raises(DataError, match=rf"manifest.jsonl: line 2: .*{message}.*; correct it$") as caught:
        lines_of(root, {**LINE, "image": "b.png"}, LINE | change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('\n{"image": }', r"manifest.jsonl: line 2 is no JSON \(.*\); correct it$"),
        ("[1]", r"manifest.jsonl: line 1 is \[1\]; allowed is \{\"image\": …, \"label\": …\}; correct it$"),
        ("[" * 100_000, r"manifest.jsonl: line 1 is no JSON \(maximum recursion depth"),
    ],
)
def test_lines_that_are_no_objects(text, message, root):
    (root / "manifest.jsonl").write_text(text)
    with pytest.raises(DataError, match=message):
        read(root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "image,lable\na.png,normal\n",
            r"manifest.csv: line 1: key 'lable' is unknown; .*; did you mean label\?; correct the header$",
        ),
        ("image;label\na.png;normal\n", r"line 1: key 'image;label' is unknown"),
        ("image,label\na.png\n", r"line 2 has 1 cells, the header 2; both must agree; correct it$"),
        ("image,label,boxes\na.png,normal,\nb.png,anomalous,1 2\n", r"line 3: boxes are no JSON \(.*\); correct them$"),
        ('image,label\na.png,"nor\n', r"line 2 is no CSV \(unexpected end of data\); correct the quotes$"),
        ("image,label\na.png,bad\n", r"line 2: label is 'bad'; have anomalous"),
        ("image\na.png\n", r"line 2: key 'label' is missing"),
    ],
)
def test_mistakes_in_a_csv_name_their_line(text, message, root):
    with pytest.raises(DataError, match=message):
        csv_of(root, text)


def test_two_manifests_or_an_empty_one(root):
    assert csv_of(root, "") == []
    with pytest.raises(DataError, match=r": no images; allowed are .*, laid out as manifest: manifest.jsonl or manifest.csv"):
        open_dataset(str(root), cache=Path("unused"))
    (root / "manifest.jsonl").write_text("")
    with pytest.raises(DataError, match=r"has 2 of manifest.jsonl and manifest.csv; allowed is one; remove the other$"):
        read(root)
    (root / "manifest.csv").unlink()
    (root / "manifest.jsonl").write_bytes(b"\xff")
    with pytest.raises(
        DataError, match=r"manifest.jsonl: cannot be read \(.*invalid start byte\); .*UTF-8 is needed; restore it$"
    ):
        read(root)


def test_files_that_no_line_names_are_left_alone(tmp_path):
    draw_manifest(tmp_path)
    save(tmp_path / "images" / "other.png", texture(16, np.random.default_rng(0)))
    assert "images/other.png" not in {sample.id for sample in read(tmp_path)}


def test_an_empty_group_is_none(root):
    assert lines_of(root, {"image": "a.png", "label": "normal", "group": ""})[0].group is None


def test_a_key_that_is_there_twice(root):
    with pytest.raises(DataError, match=r"line 1: key 'label' is there twice; allowed is once; correct the header$"):
        csv_of(root, "image,label,label\na.png,normal,anomalous\n")
