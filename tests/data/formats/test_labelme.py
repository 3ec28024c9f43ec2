from __future__ import annotations

import json

import pytest

from adjobs.data.formats import labelme
from adjobs.data.labels.masks import read_mask
from adjobs.data.reading import ReadContext
from tests.helpers.annotated import draw_labelme
from tests.helpers.datasets import by_id, edit_json
from tests.helpers.exports import NO_DIFFERENCE, ONLY_THE_HOLE, SCENE_BOXES, boxes, differences, labels, open_export, scene_labels


def read(root):
    """Samples by id, and the problems."""
    context = ReadContext()
    return by_id(labelme.read(root, context)), [(problem.sample, problem.message) for problem in context.problems]


@pytest.mark.parametrize(("name", "expected"), [("labelme-masks", NO_DIFFERENCE), ("labelme-polygons", ONLY_THE_HOLE)])
def test_read_masks_polygons_and_circles_are_exact(name, expected, tmp_path):
    dataset = open_export(name, tmp_path / "set")
    assert (dataset.format, dataset.problems, differences(dataset)) == ("labelme", (), expected)
    assert labels(dataset) == scene_labels(splits=False)


def test_read_rectangles_are_exact(tmp_path):
    assert boxes(open_export("labelme-boxes", tmp_path / "set")) == SCENE_BOXES


def test_read_flags_and_missing_files(tmp_path):
    samples, problems = read(draw_labelme(tmp_path))
    assert (samples["bad2.png"].label, samples["bad2.png"].defect) == ("anomalous", "scratch")
    assert (samples["good00.png"].label, samples["new.png"].label) == ("normal", "unlabelled")
    assert int(read_mask(samples["bad0.png"].mask)[4:9, 4:13].sum()) == 45
    assert problems == []


@pytest.mark.parametrize("name", ["../images/bad0.png", "C:\\Users\\anna\\images\\bad0.png", "..\\images\\bad0.png", "bad0.png"])
def test_read_image_path_of_another_folder_or_machine(name, tmp_path):
    root = draw_labelme(tmp_path)
    for folder, pattern in (("images", "*.png"), ("labels", "*.json")):
        (root / folder).mkdir()
        for path in root.glob(pattern):
            path.rename(root / folder / path.name)
    edit_json(root / "labels" / "bad0.json", lambda document: document.update(imagePath=name))
    samples, problems = read(root)
    assert (samples["images/bad0.png"].label, problems) == ("anomalous", [])
    assert labelme.recognises(root)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"shape_type": "linestrip"},
            "shape 1: shape is 'linestrip', which marks no area; outline the defect by a polygon",
        ),
        ({"shape_type": "point", "points": [[1, 2]]}, "shape 1: shape is 'point', which marks no area"),
        ({"points": [[1, 2], [3]]}, "shape 1: points are [[1, 2], [3]]; expected a list of [x, y] in pixels"),
        ({"points": None}, "shape 1: points are None; expected a list of [x, y] in pixels"),
        ({"points": [[1, 2], [1e300, 3], [4, 5]]}, "shape 1: points are [[1, 2], [1e+300, 3], [4, 5]]; expected a list"),
        ({"points": [[1, 2], [9, 9]]}, "shape 1: polygon is [1, 2, 9, 9]; expected x, y, x, y, … of three or more points"),
        ({"shape_type": "mask", "mask": "AAAA"}, "shape 1: bitmap cannot be decoded ("),
        ({"shape_type": "mask", "mask": None}, "shape 1: bitmap cannot be decoded ("),
        ({"label": None}, "shapes.0.label is None; input should be a valid string"),
    ],
)
def test_read_shape_that_cannot_be_used_is_an_error_of_the_image(change, message, tmp_path):
    root = draw_labelme(tmp_path)
    edit_json(root / "bad0.json", lambda document: document["shapes"][0].update(change))
    samples, problems = read(root)
    assert samples["bad0.png"].label == "anomalous"
    ((sample, text),) = problems
    assert sample == "bad0.png"
    assert message in text
    assert "\n" not in text


def test_read_files_that_cannot_be_used_are_errors(tmp_path):
    root = draw_labelme(tmp_path)
    (root / "bad0.json").write_text('{"flags": {}, "shapes": [')
    edit_json(root / "bad1.json", lambda document: document.update(imageWidth=64))
    edit_json(root / "bad2.json", lambda document: document.update(imagePath="away.png"))
    (root / "notes.json").write_text(json.dumps({"shapes": "of something else"}))
    problems = dict(read(root)[1])
    assert problems.keys() == {"bad0.png", "bad1.png", "bad2.json: image away.png"}
    assert "is not valid JSON" in problems["bad0.png"]
    assert "boxes of bad1.png are for 64 x 32 pixels, but the upright image has 32 x 32" in problems["bad1.png"]


def test_read_file_whose_keys_are_sorted_behind_the_image_data(tmp_path):
    root = draw_labelme(tmp_path)
    before = read(root)
    edit_json(root / "bad0.json", lambda document: document.update(imageData="A" * 5000))
    document = json.loads((root / "bad0.json").read_text())
    (root / "bad0.json").write_text(json.dumps(document, sort_keys=True))
    assert read(root) == before


@pytest.mark.parametrize("text", ["", "\n", "{", '{"version": "5.0.1", "fla', '{"shapes": [], "imagePath": 3}'])
def test_read_empty_or_cut_off_file_is_an_error_of_its_image(text, tmp_path):
    draw_labelme(tmp_path)
    (tmp_path / "good01.json").write_text(text)
    _, [(sample, message)] = read(tmp_path)
    assert sample == "good01.png"
    assert "good01.json: " in message


def test_read_json_of_something_else_is_left_alone(tmp_path):
    draw_labelme(tmp_path)
    (tmp_path / "new.json").write_text('{"camera": "left"}')
    (tmp_path / "notes.json").write_text("{")
    samples, problems = read(tmp_path)
    assert (samples["new.png"].label, problems) == ("unlabelled", [])
