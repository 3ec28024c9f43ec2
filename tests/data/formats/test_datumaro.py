from __future__ import annotations

import pytest

from adjobs.data.formats import datumaro
from adjobs.data.labels.masks import Box, read_mask
from adjobs.data.reading import ReadContext
from adjobs.errors import DataError
from tests.helpers.annotated import draw_datumaro
from tests.helpers.datasets import by_id, edit_json
from tests.helpers.exports import NO_DIFFERENCE, ONLY_THE_HOLE, SCENE_BOXES, boxes, differences, labels, open_export, scene_labels

IMAGES = "images/{split}/{name}.png"


def read(root):
    """Samples by id, and the problems."""
    context = ReadContext()
    return by_id(datumaro.read(root, context)), [(problem.sample, problem.message) for problem in context.problems]


@pytest.mark.parametrize(("name", "expected"), [("datumaro-masks", NO_DIFFERENCE), ("datumaro-polygons", ONLY_THE_HOLE)])
def test_read_masks_polygons_and_ellipses_are_exact(name, expected, tmp_path):
    dataset = open_export(name, tmp_path / "set", IMAGES)
    assert (dataset.format, dataset.problems, differences(dataset)) == ("datumaro", (), expected)
    assert labels(dataset) == scene_labels(splits=True)


def test_read_boxes_are_exact(tmp_path):
    assert boxes(open_export("datumaro-boxes", tmp_path / "set", IMAGES)) == SCENE_BOXES


def test_read_annotations_of_all_types(tmp_path):
    samples, problems = read(draw_datumaro(tmp_path))
    polygon, box, code, tag = (samples[f"images/test/bad{i}.png"] for i in range(4))
    assert problems == []
    assert (int(read_mask(polygon.mask).sum()), polygon.boxes) == (45, None)  # the box of its group says nothing more
    assert (box.boxes, box.published_split) == ((Box(1.5, 2, 11.5, 22.25),), "test")
    assert int(read_mask(code.mask).sum()) == 96
    assert (tag.label, tag.defect, tag.mask, tag.boxes) == ("anomalous", "dent", None, None)


def test_read_turned_box_of_cvat_is_its_bounding_box(tmp_path):
    root = draw_datumaro(tmp_path)
    change = {"bbox": [10, 14, 10, 2], "attributes": {"rotation": 90.0}}
    edit_json(root / "annotations" / "test.json", lambda document: document["items"][1]["annotations"][0].update(change))
    assert read(root)[0]["images/test/bad1.png"].boxes == (Box(14, 10, 16, 20),)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type": "polyline"}, "item bad1, annotation 1: shape is 'polyline', which marks no area; outline the defect"),
        ({"type": "cuboid_3d"}, "item bad1, annotation 1: shape is 'cuboid_3d', which marks no area"),
        ({"label_id": 2}, "item bad1, annotation 1 has the label 2; the file has 2 labels, from 0"),
        ({"bbox": [1, 2, 3, "4"]}, "item bad1, annotation 1: coordinates are [1, 2, 3, '4']; expected numbers in pixels"),
        ({"attributes": {"rotation": "45"}}, "rotation is '45'; expected a number of degrees"),
        ({"type": "mask", "rle": {"size": [3, 3], "counts": [9]}}, "run-length code has size [3, 3]; expected [32, 32]"),
        ({"type": "mask", "rle": None}, "item bad1, annotation 1: has neither box nor outline; one is required"),
    ],
)
def test_read_annotation_that_cannot_be_used_is_an_error_of_the_image(change, message, tmp_path):
    root = draw_datumaro(tmp_path)
    edit_json(root / "annotations" / "test.json", lambda document: document["items"][1]["annotations"][0].update(change))
    samples, problems = read(root)
    assert samples["images/test/bad1.png"].label == "anomalous"
    ((sample, text),) = problems
    assert sample == "images/test/bad1.png"
    assert message in text


def test_read_item_that_cannot_be_used_is_an_error(tmp_path):
    root = draw_datumaro(tmp_path)

    def change(document):
        document["items"][0]["id"] = 3
        document["items"][1]["image"]["path"] = "away.png"

    edit_json(root / "annotations" / "test.json", change)
    problems = dict(read(root)[1])
    assert "id is 3; input should be a valid string" in problems["test.json: item 1"]
    assert "there is no such image" in problems["test.json: image away.png"]


def test_read_document_that_cannot_be_used_is_refused(tmp_path):
    root = draw_datumaro(tmp_path)
    edit_json(root / "annotations" / "test.json", lambda document: document.update(items=None))
    with pytest.raises(DataError, match=r"test.json: items is None; input should be a valid list; fix it or export it again$"):
        read(root)
