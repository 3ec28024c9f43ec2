from __future__ import annotations

import pytest

from adjobs.data.formats import cvat
from adjobs.data.labels.masks import Box, read_mask
from adjobs.data.reading import ReadContext
from adjobs.errors import DataError
from tests.data.make import scene
from tests.helpers.annotated import draw_cvat
from tests.helpers.datasets import by_id
from tests.helpers.exports import NO_DIFFERENCE, ONLY_THE_HOLE, SCENE_BOXES, boxes, differences, labels, open_export, scene_labels


def read_shape(tmp_path, shape, **attributes):
    """The image of a document with one shape, and the problems."""
    root = draw_cvat(tmp_path)
    size = {"width": "32", "height": "32", **attributes}
    image = " ".join(f'{key}="{value}"' for key, value in size.items())
    text = f'<annotations><image name="bad0.png" {image}>{shape}</image></annotations>'
    (root / "annotations.xml").write_text(text)
    context = ReadContext()
    return by_id(cvat.read(root, context))["images/bad0.png"], [problem.message for problem in context.problems]


def test_read_masks_of_datumaro_are_exact(tmp_path):
    dataset = open_export("cvat-datumaro-masks", tmp_path / "set", "images/{name}.png")
    assert (dataset.format, differences(dataset)) == ("cvat", NO_DIFFERENCE)
    assert labels(dataset) == scene_labels(splits=True)


def test_read_polygons_of_datumaro_are_exact(tmp_path):
    dataset = open_export("cvat-datumaro-polygons", tmp_path / "set", "images/{name}.png")
    # Datumaro leaves out the ellipse.
    assert differences(dataset) == {name: pixels for name, pixels in ONLY_THE_HOLE.items() if name != "circle"}
    assert labels(dataset)["circle"] == ("normal", "", "train")


def test_read_boxes_of_datumaro_are_exact(tmp_path):
    assert boxes(open_export("cvat-datumaro-boxes", tmp_path / "set", "images/{name}.png")) == SCENE_BOXES


def test_read_polygons_of_fiftyone_are_exact(tmp_path):
    dataset = open_export("cvat-fiftyone-polygons", tmp_path / "set", "data/{name}.png", scene.BOXES)
    assert differences(dataset) == {**ONLY_THE_HOLE, "circle": 48}  # a square is drawn around the circle
    assert labels(dataset) == scene_labels(splits=False, names=scene.BOXES)


def test_read_mask_inside_its_box(tmp_path):
    shape = (
        '<mask label="dent" source="manual" occluded="0" rle="1, 2, 0, 3" left="30" top="4" width="2" height="3" z_order="0"/>'
    )
    sample, problems = read_shape(tmp_path, shape)
    assert problems == []
    assert [tuple(pixel) for pixel in zip(*read_mask(sample.mask).nonzero(), strict=True)] == [
        (4, 31),
        (5, 30),
        (5, 31),
        (6, 30),
        (6, 31),
    ]


def test_read_turned_ellipse_and_box(tmp_path):
    sample, _ = read_shape(tmp_path, '<ellipse label="dent" cx="16" cy="16" rx="8" ry="2" rotation="90.00"/>')
    rows, columns = read_mask(sample.mask).nonzero()
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (8, 23, 14, 17)
    (tmp_path / "box").mkdir()
    sample, _ = read_shape(
        tmp_path / "box", '<box label="dent" xtl="10" ytl="14" xbr="20" ybr="16" rotation="90.00" occluded="1"/>'
    )
    assert sample.boxes == (Box(14, 10, 16, 20),)


def test_read_tag_is_the_class_of_the_image(tmp_path):
    sample, _ = read_shape(tmp_path, '<tag label="scratch" source="manual"></tag>')
    assert (sample.label, sample.defect, sample.mask) == ("anomalous", "scratch", None)


def test_read_image_that_no_document_names_is_unlabelled(tmp_path):
    read_shape(tmp_path, "")
    assert by_id(cvat.read(tmp_path, ReadContext()))["images/good00.png"].label == "unlabelled"


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ('<polyline label="dent" points="1,2;3,4"/>', "polyline 1: shape is 'polyline', which marks no area; outline the defect"),
        ('<skeleton label="dent"><points label="a" points="1,2"/></skeleton>', "skeleton 1: shape is 'skeleton', which marks"),
        ('<polygon label="dent" points="1,2;3"/>', "polygon 1: polygon is [1.0, 2.0, 3.0]; expected x, y, x, y, "),
        ('<polygon label="dent" points="1,2;3,x"/>', "polygon 1: coordinates are ['1', '2', '3', 'x']; expected numbers in"),
        ('<box label="dent" xtl="1" ytl="2" xbr="nan" ybr="4"/>', "box 1: coordinates are ['1', '2', 'nan', '4']; expected"),
        ('<box label="dent" xtl="1" ytl="2"/>', "box 1: coordinates are ['1', '2', None, None]; expected numbers in pixels"),
        ('<mask label="dent" rle="1, 2" left="0" top="0" width="2" height="2"/>', "run lengths are [1, 2]; they must add up to"),
        ('<mask label="dent" rle="0, 4" left="31" top="0" width="2" height="2"/>', "bitmap of 2 x 2 pixels at (31, 0) is not in"),
        ('<mask label="dent" rle="0, 1" left="0" top="0" width="1000000" height="1000000"/>', "image size is 1000000 x 1000000"),
        ('<ellipse label="dent" cx="1" cy="2" rx="0" ry="1"/>', "ellipse has the radii 0 and 1; they must be positive"),
    ],
)
def test_read_shape_that_cannot_be_used_is_an_error_of_the_image(shape, message, tmp_path):
    sample, problems = read_shape(tmp_path, shape)
    assert sample.label == "anomalous"
    (problem,) = problems
    assert problem.startswith("annotations.xml: image bad0.png, ")
    assert message in problem
    assert "\n" not in problem


def test_read_annotations_for_another_image_size_are_an_error(tmp_path):
    _, problems = read_shape(tmp_path, '<box label="dent" xtl="1" ytl="2" xbr="9" ybr="9"/>', width="64")
    assert "boxes of bad0.png are for 64 x 32 pixels, but the upright image has 32 x 32" in problems[0]


def test_read_image_listed_twice_or_missing_is_an_error(tmp_path):
    root = draw_cvat(tmp_path)
    image = '<image name="bad0.png" width="32" height="32"/>'
    (root / "annotations.xml").write_text(f'<annotations>{image}{image}<image name="away.png"/></annotations>')
    context = ReadContext()
    cvat.read(root, context)
    assert [(problem.sample, problem.message) for problem in context.problems] == [
        (
            "images/bad0.png",
            "annotations.xml: the image is listed twice, each time with annotations of its own; fix it or export the file again",
        ),
        (
            "annotations.xml: image away.png",
            "there is no such image; copy it to where the file names it; fix it or export the file again",
        ),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '<annotations><track id="0" label="dent"/></annotations>',
            r"annotations.xml: is of a video .* as 'CVAT for images 1.1'$",
        ),
        ("<annotations><image></annotations>", r"annotations.xml: is not valid XML \(mismatched tag.*\); export it again$"),
        (
            '<!DOCTYPE a [<!ENTITY b "c">]><annotations><version>&b;</version></annotations>',
            r"has a DOCTYPE; annotations need none, and it may define entities; remove it$",
        ),
    ],
)
def test_read_document_that_cannot_be_used_is_refused(text, message, tmp_path):
    root = draw_cvat(tmp_path)
    (root / "annotations.xml").write_text(text)
    assert cvat.recognises(root)
    with pytest.raises(DataError, match=message):
        cvat.read(root, ReadContext())
