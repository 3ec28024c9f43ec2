from __future__ import annotations

import base64
import zlib

import pytest

from adjobs.data.formats import supervisely
from adjobs.data.labels.masks import Box, read_mask
from adjobs.data.reading import ReadContext
from tests.helpers.annotated import draw_supervisely
from tests.helpers.datasets import by_id, edit_json
from tests.helpers.exports import NO_DIFFERENCE, SCENE_BOXES, boxes, differences, labels, open_export, scene_labels

IMAGES = "{split}/img/{name}.png"
RECTANGLE = "test/ann/bad1.png.json"


def read(root):
    """Samples by id, and the problems."""
    context = ReadContext()
    return by_id(supervisely.read(root, context)), [(problem.sample, problem.message) for problem in context.problems]


@pytest.mark.parametrize("kind", ["masks", "polygons"])
def test_read_bitmaps_and_polygons_with_holes_are_exact(kind, tmp_path):
    dataset = open_export(f"supervisely-{kind}", tmp_path / "set", IMAGES)
    assert (dataset.format, differences(dataset)) == ("supervisely", NO_DIFFERENCE)
    assert labels(dataset) == scene_labels(splits=True)
    assert [problem.message for problem in dataset.problems] == [
        "attribute 'camera' of images is not used: its name does not say that it is their class; if it is, name it 'class'"
    ]


def test_read_rectangles_are_exact(tmp_path):
    assert boxes(open_export("supervisely-boxes", tmp_path / "set", IMAGES)) == SCENE_BOXES


def test_read_tags_and_missing_files(tmp_path):
    root = draw_supervisely(tmp_path)
    edit_json(root / "train/ann/good00.png.json", lambda document: document.update(tags=[{"name": "val"}]))
    samples, problems = read(root)
    tagged = samples["test/img/bad2.png"]
    assert (tagged.label, tagged.defect, tagged.published_split) == ("anomalous", "dent", "test")
    assert samples["train/img/new.png"].label == "unlabelled"
    assert (samples["train/img/good00.png"].label, samples["train/img/good00.png"].published_split) == ("normal", "val")
    assert problems == []


def test_read_turned_box_and_several_polygons(tmp_path):
    root = draw_supervisely(tmp_path)
    turned = {"geometryType": "oriented_bbox", "points": [[10, 14], [19, 15]], "angle": 3.14159265 / 2}
    edit_json(root / RECTANGLE, lambda document: document["objects"][0].update(turned))
    assert read(root)[0]["test/img/bad1.png"].boxes == (Box(14, 10, 16, 20),)
    squares = [{"exterior": [[x, 4], [x + 1, 4], [x + 1, 5], [x, 5]], "interior": []} for x in (4, 20)]
    edit_json(
        root / RECTANGLE, lambda document: document["objects"][0].update({"geometryType": "multipolygon", "parts": squares})
    )
    assert int(read_mask(read(root)[0]["test/img/bad1.png"].mask).sum()) == 8


def bomb() -> str:
    """A bitmap that decompresses to 64 MiB."""
    return base64.b64encode(zlib.compress(bytes(1 << 26))).decode()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"geometryType": "polyline"}, "object 1: shape is 'polyline', which marks no area; outline the defect by a polygon"),
        ({"geometryType": "graph"}, "object 1: shape is 'graph', which marks no area"),
        ({"geometryType": "bitmap", "bitmap": {"origin": [0, 0], "data": bomb()}}, "it has more than 22,369,621 bytes when"),
        ({"geometryType": "bitmap", "bitmap": {"origin": [0, 0], "data": "!"}}, "object 1: bitmap cannot be decoded ("),
        ({"geometryType": "bitmap", "bitmap": {}}, "object 1: points are [None]; expected a list of [x, y] in pixels"),
        ({"geometryType": "polygon", "points": {"exterior": [[1, 2]]}}, "object 1: polygon is [1, 2]; expected x, y, x, y, "),
        ({"points": {"exterior": [[1, 2]]}}, "object 1: rectangle has 1 points; expected two corners"),
    ],
)
def test_read_object_that_cannot_be_used_is_an_error_of_the_image(change, message, tmp_path):
    root = draw_supervisely(tmp_path)
    edit_json(root / RECTANGLE, lambda document: document["objects"][0].update(change))
    samples, problems = read(root)
    assert samples["test/img/bad1.png"].label == "anomalous"
    ((sample, text),) = problems
    assert sample == "test/img/bad1.png"
    assert message in text
    assert "\n" not in text


def test_read_files_that_cannot_be_used_are_errors(tmp_path):
    root = draw_supervisely(tmp_path)
    (root / "test/ann/bad0.png.json").write_text("{")
    edit_json(root / RECTANGLE, lambda document: document.update(size={"width": 64, "height": 32}))
    (root / "test/ann/away.png.json").write_text("{}")
    problems = dict(read(root)[1])
    assert problems.keys() == {"test/img/bad0.png", "test/img/bad1.png", "test/ann/away.png.json: image away.png"}
    assert "is not valid JSON" in problems["test/img/bad0.png"]
    assert "boxes of bad1.png are for 64 x 32 pixels" in problems["test/img/bad1.png"]


def test_read_bitmap_that_is_null_beside_another_shape(tmp_path):
    root = draw_supervisely(tmp_path)
    before = read(root)
    edit_json(root / RECTANGLE, lambda document: document["objects"][0].update(bitmap=None))
    assert read(root) == before
    edit_json(root / RECTANGLE, lambda document: document["objects"][0].update(geometryType="bitmap"))
    assert "points are [None]" in read(root)[1][0][1]
