from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from adjobs.data.annotations import AnnotatedImage, make_region
from adjobs.data.dataset import Sample
from adjobs.data.labels import polygons
from adjobs.data.labels.masks import Box, read_mask
from adjobs.data.problem import Problem
from adjobs.data.reading import ReadContext
from tests.helpers.drawing import save

SIZE = (40, 30)
SQUARE = [[4, 4, 13, 4, 13, 9, 4, 9]]


@pytest.fixture
def image(tmp_path):
    return AnnotatedImage(ReadContext(), tmp_path, save(tmp_path / "a.png", np.zeros((30, 40), np.uint8)), "labels.json", SIZE)


def problems_of(image: AnnotatedImage) -> list[Problem]:
    return image._context.problems


def test_sample_without_annotations_is_normal(image):
    assert image.sample() == Sample("a.png", image._file, "normal")


def test_sample_outlines_are_a_mask_named_by_the_largest(image):
    image.add("annotation 1", "dent", segmentation=[[20, 20, 22, 20, 22, 22]])
    image.add("annotation 2", "scratch, deep", segmentation=SQUARE, box=(4, 4, 13, 9))
    sample = image.sample(published_split="test", group="tray 1")
    assert (sample.label, sample.defect, sample.boxes) == ("anomalous", "scratch deep", None)
    assert (sample.published_split, sample.group) == ("test", "tray 1")
    assert int(read_mask(sample.mask)[4:9, 4:13].sum()) == 45


def test_sample_one_region_without_outline_makes_all_boxes(image):
    image.add("annotation 1", "dent", segmentation=SQUARE)
    image.add("annotation 2", "dent", box=(20, -3, 60, 5), segmentation=[])
    assert image.sample().boxes == (Box(4, 4, 13, 9), Box(20, 0, 40, 5))


def test_sample_class_that_means_normal_is_reported_once(image):
    image.add("annotation 1", "Good", box=(4, 4, 13, 9))
    image.add("annotation 2", "Good", box="whatever it is")
    assert image.sample().label == "normal"
    (problem,) = problems_of(image)
    assert (problem.sample, problem.kind, problem.severity) == ("", "normal class", "warning")
    assert problem.message.startswith("class 'Good' means normal: images annotated with nothing else are normal; ")


@pytest.mark.parametrize(
    ("tags", "label", "defect"),
    [
        (["OK"], "normal", ""),
        (["n.i.O."], "anomalous", ""),
        (["Bent, pin"], "anomalous", "Bent pin"),
        (["ok", "dirt"], "anomalous", "dirt"),
    ],
)
def test_sample_tags_label_the_image(image, tags, label, defect):
    for tag in tags:
        image.tag(tag)
    sample = image.sample()
    assert (sample.label, sample.defect) == (label, defect)


def test_sample_normal_tag_beside_a_defect_is_an_error(image):
    image.add("annotation 1", "dent", segmentation=SQUARE)
    image.tag("OK")
    image.sample()
    assert [problem.message for problem in problems_of(image)] == [
        "labels.json: the choice OK contradicts the 1 drawn defects; one of them is wrong; fix it or export the file again"
    ]


def test_sample_invalid_annotations_are_all_recorded(image):
    image.add("annotation 1", "dent", box=(4, 4, 4, 9))
    image.add("annotation 2", "dent", segmentation=[[1, 2, 3, 4]])
    assert image.sample().label == "anomalous"
    assert [(problem.sample, problem.severity) for problem in problems_of(image)] == [("a.png", "error")] * 2
    assert (
        problems_of(image)[0].message
        == "labels.json: annotation 1: box has no area (0 x 5 pixels); fix it or export the file again"
    )


def test_sample_box_in_place_of_a_useless_outline_is_reported(image):
    image.add("annotation 1", "dent", segmentation=[[1, 2, 3, 4]], box=(1, 2, 4, 5))
    assert image.sample().boxes == (Box(1, 2, 4, 5),)
    (problem,) = problems_of(image)
    assert (problem.sample, problem.severity, problem.kind) == ("a.png", "warning", "outline not used")


def test_sample_boxes_for_another_image_size_are_an_error(tmp_path):
    context, file = ReadContext(), save(tmp_path / "a.png", np.zeros((30, 40), np.uint8))
    image = AnnotatedImage(context, tmp_path, file, "labels.json", (80, 60))
    image.add("annotation 1", "dent", box=(1, 2, 4, 5))
    image.sample()
    assert "boxes of a.png are for 80 x 60 pixels, but the upright image has 40 x 30" in context.problems[0].message
    own = AnnotatedImage(context, tmp_path, file, "labels.json")
    own.add("line 1", "dent", box=(1, 2, 4, 5))
    assert (own.size, own.sample().boxes) == (SIZE, (Box(1, 2, 4, 5),))


def test_sample_unreadable_image_is_left_to_the_check(tmp_path):
    (tmp_path / "a.png").write_bytes(b"not an image")
    context = ReadContext()
    image = AnnotatedImage(context, tmp_path, Path(tmp_path / "a.png"), "labels.json")
    image.add("line 1", "dent", box=(1, 2, 4, 5))
    sample = image.sample()
    assert (sample.label, sample.boxes, context.problems) == ("anomalous", None, [])


@pytest.mark.parametrize(
    ("segmentation", "box", "area", "pixels"),
    [
        ([[20, 10, 29, 10, 29, 19, 20, 19]], (20, 10, 30, 20), 100, 100),  # supervision writes a square of 10 x 10 so
        ([[20, 10, 22, 10, 22, 12, 20, 12]], (20, 10, 23, 13), None, 9),
        ([[20, 10, 22, 10, 22, 12, 20, 12]], None, 9, 9),
        ([[5, 10, 29, 10]], (5, 10, 30, 11), 25, 25),  # a scratch of one row
        ([[5, 10]], (5, 10, 6, 11), 1, 1),
        ([[20, 10, 30, 10, 30, 20, 20, 20]], (20, 10, 30, 20), 100, 100),  # along the edges of pixels
        ([[20, 10, 22, 10, 22, 12, 20, 12]], (20, 10, 22, 12), 9, 4),  # the box fits, whatever the area
        ([[20, 10, 22, 10, 22, 12, 20, 12]], None, 4, 4),
        ([[20.5, 10, 22.5, 10, 22.5, 12, 20.5, 12]], (20.5, 10, 23.5, 13), None, 4),
    ],
)
def test_make_region_outlines_through_centres_have_the_pixels_of_the_mask(segmentation, box, area, pixels):
    region = make_region("dent", SIZE, segmentation, box, area)
    assert region.redrawn == isinstance(region.segmentation, dict)
    assert int(polygons.draw(region.segmentation, *SIZE).sum()) == pixels


def test_sample_outlines_through_centres_are_reported_once(image):
    for number in range(2):
        image.add(f"annotation {number}", "dent", segmentation=[[20, 10, 22, 10, 22, 12, 20, 12]], box=(20, 10, 23, 13))
    assert int(read_mask(image.sample().mask).sum()) == 9
    assert [(problem.sample, problem.kind, problem.severity) for problem in problems_of(image)] == [("", "outlines", "warning")]


@pytest.mark.parametrize(
    ("segmentation", "box", "message"),
    [
        (None, None, r"^has neither box nor outline; one is required$"),
        ([], [], r"^has neither box nor outline"),
        ([[]], None, r"^polygon is \[\]; expected x, y"),
        ([[1, 2, 3, 4]], None, r"^polygon is \[1, 2, 3, 4\]; expected x, y, x, y, … of three or more"),
        ([[1, 2, 3, 2, 5, 2]], None, r"^outline does not overlap the image of 40 x 30 pixels$"),
        ([[50, 2, 60, 2, 60, 9]], None, r"^outline does not overlap the image of 40 x 30 pixels$"),
        (None, [40, 2, 43, 6], r"^does not overlap the image of 40 x 30 pixels$"),
        (None, [4, 2, 4, 6], r"^box has no area \(0 x 4 pixels\)$"),
        (None, [1, 2, 3], r"^box is \[1, 2, 3\]; expected four numbers in pixels$"),
        (None, [1, 2, 3, "4"], r"expected four numbers in pixels$"),
        (None, [1, 2, 3, float("inf")], r"expected four numbers in pixels$"),
        (None, [0.25, 0.25, 0.5, 0.5], r"^coordinates look like shares of the image's size, from 0 to 1; pixels are needed"),
        ([[0.1, 0.1, 0.9, 0.1, 0.9, 0.9]], None, r"^coordinates look like shares"),
        ([[1, 2, 3, 4]], [1, 2, 1, 2], r"^polygon is .*; box has no area"),
        ({"size": [3, 3], "counts": [9]}, None, r"^run-length code has size \[3, 3\]"),
        ("what", None, r"^segmentation is 'what'"),
    ],
)
def test_make_region_neither_outline_nor_box_usable_is_refused(segmentation, box, message):
    with pytest.raises(ValueError, match=message):
        make_region("dent", SIZE, segmentation, box)


def test_make_region_empty_polygon_beside_another_is_ignored():
    assert make_region("dent", SIZE, [*SQUARE, []]).segmentation == SQUARE


def test_make_region_useless_box_beside_an_outline_is_ignored():
    for box in ([], [4, 4, 4, 9], [1, 2]):
        assert make_region("dent", SIZE, SQUARE, box).box == Box(4, 4, 13, 9)


def test_make_region_run_length_code_is_kept():
    code = json.loads('{"size": [30, 40], "counts": [0, 31, 1169]}')
    assert make_region("dent", SIZE, code, area=31) == ("dent", Box(0, 0, 2, 30), 31.0, code, False, "")


@pytest.mark.parametrize("box", [(20, 10, 23, 13), None])
def test_add_outline_that_is_a_line_gives_the_box(image, box):
    image.add("annotation 2", "dent", segmentation=[[22.0, 12.5, 20.0, 9.5, 22.0, 12.5]], box=box)
    (problem,) = problems_of(image)
    assert "outline is a line, which encloses no area" in problem.message
    assert (problem.severity, image.sample().boxes) == (("warning", (Box(20, 10, 23, 13),)) if box else ("error", None))
