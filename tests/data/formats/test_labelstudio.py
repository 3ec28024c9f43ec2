from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from adjobs.data.dataset import Sample
from adjobs.data.formats import labelstudio
from adjobs.data.labels.masks import Box, Shapes, read_mask
from adjobs.errors import DataError
from tests.data.test_brush import pack
from tests.data.test_formats_coco import by_name, edit
from tests.helpers.drawing import draw_labelstudio

TASKS = "project-3-at-2026-01-31.json"


def task_of(root: Path, change) -> dict[str, Sample]:
    """The samples after a change of the first task, which is that of ``bad0.png`` with a rectangle."""
    edit(draw_labelstudio(root) / TASKS, lambda tasks: change(tasks[0]))
    return by_name(labelstudio.read(root))


def result_of(root: Path, *results: dict) -> Sample:
    """The sample of an image of 32 x 32 pixels with these results."""
    size = {"original_width": 32, "original_height": 32, "image_rotation": 0}
    results = tuple(size | result for result in results)
    return task_of(root, lambda task: task["annotations"][0].update(result=results))["pictures/bad0.png"]


def test_the_drawn_one(tmp_path):
    samples = by_name(labelstudio.read(draw_labelstudio(tmp_path)))
    box, polygon, choice = (samples[f"pictures/bad{i}.png"] for i in range(3))
    assert (box.boxes, box.mask, box.label, box.defect) == ((Box(8, 4, 24, 12),), None, "anomalous", "Scratch")
    assert (polygon.mask, polygon.defect) == (Shapes(("[[8.0, 8.0, 24.0, 8.0, 24.0, 16.0]]",), 32, 32), "Dent")
    assert (choice.label, choice.mask, choice.boxes, choice.defect) == ("anomalous", None, None, "")
    assert samples["pictures/good00.png"].label == "normal"
    assert samples["pictures/skipped.png"].label == samples["pictures/new.png"].label == "unlabelled"


def test_brush(tmp_path):
    painted = np.zeros((32, 32), dtype=bool)
    painted[3:9, 4:6] = True
    value = {"format": "rle", "rle": pack(np.repeat(painted.ravel(), 4) * 255), "brushlabels": ["Oil"]}
    erased = {"format": "rle", "rle": pack(np.zeros(32 * 32 * 4, dtype=int)), "brushlabels": ["Rust"]}
    results = [{"type": "brushlabels", "value": part} for part in (value, erased)]
    sample = result_of(tmp_path, *results)
    assert np.array_equal(read_mask(sample.mask), painted)
    assert sample.defect == "Oil"


def test_turned_rectangle_becomes_the_upright_box_around_it(tmp_path):
    # 16 x 8 pixels, turned clockwise by a right angle around the corner at (16, 8): it hangs to the left of that corner.
    value = {"x": 50, "y": 25, "width": 50, "height": 25, "rotation": 90, "rectanglelabels": ["Dent"]}
    assert result_of(tmp_path, {"type": "rectanglelabels", "value": value}).boxes == (Box(8, 8, 16, 24),)


def test_one_rectangle_makes_all_marks_boxes(tmp_path):
    rectangle = {"x": 0, "y": 0, "width": 25, "height": 25, "rectanglelabels": ["Small"]}
    polygon = {"points": [[25, 25], [101, 25], [75, 50]], "polygonlabels": ["Large, wide"]}
    sample = result_of(tmp_path, {"type": "rectanglelabels", "value": rectangle}, {"type": "polygonlabels", "value": polygon})
    assert (sample.boxes, sample.mask, sample.defect) == ((Box(0, 0, 8, 8), Box(8, 8, 32, 16)), None, "Large wide")


def test_names_given_apart_from_the_shape(tmp_path):
    shape = {"x": 0, "y": 0, "width": 25, "height": 25}
    results = [
        {"id": "r", "type": "rectangle", "value": shape},
        {"id": "r", "type": "labels", "value": {**shape, "labels": ["Dent"]}},
        {"id": "t", "type": "textarea", "value": {"text": ["not sure"]}},
        {"type": "relation", "from_id": "r", "to_id": "t"},
    ]
    assert result_of(tmp_path, *results).defect == "Dent"


def test_choices_about_a_shape_do_not_class_the_image(tmp_path):
    shape = {"x": 0, "y": 0, "width": 25, "height": 25, "rectanglelabels": ["Dent"]}
    results = [
        {"id": "r", "type": "rectanglelabels", "value": shape},
        {"id": "r", "type": "choices", "value": {"choices": ["OK"]}},
    ]
    assert result_of(tmp_path, *results).defect == "Dent"


@pytest.mark.parametrize(
    ("choices", "label", "defect"),
    [
        (["OK"], "normal", ""),
        (["NG"], "anomalous", ""),
        (["Bent, pin"], "anomalous", "Bent pin"),
        (["good", "dirt"], "anomalous", "dirt"),
    ],
)
def test_choices(choices, label, defect, tmp_path):
    sample = result_of(tmp_path, {"type": "choices", "value": {"choices": choices}})
    assert (sample.label, sample.defect) == (label, defect)


def test_takes_the_ground_truth_then_the_latest(tmp_path):
    def annotation(choice, **more):
        return {"result": [{"type": "choices", "value": {"choices": [choice]}}], **more}

    early = annotation("early", updated_at="2026-01-01T00:00:00Z")
    late = annotation("late", updated_at="2026-02-01T00:00:00Z")
    truth = annotation("truth", updated_at="2025-01-01T00:00:00Z", ground_truth=True)
    skipped = annotation("skipped", updated_at="2026-03-01T00:00:00Z", was_cancelled=True)
    for given, defect in (([late, early, skipped], "late"), ([truth, late, skipped], "truth")):
        shutil.rmtree(tmp_path / "set", ignore_errors=True)
        found = task_of(tmp_path / "set", lambda task, given=given: task.update(annotations=given))
        assert found["pictures/bad0.png"].defect == defect


@pytest.mark.parametrize(
    "data",
    [
        {"image": "https://host/bucket/bad0.png?X-Amz-Signature=a/b"},
        {"image": "s3://bucket/some/bad0.png"},
        {"image": "/data/local-files/?d=line%203/pictures/bad0.png"},
        {"image": "/data/upload/3/bad0.png"},
        {"note": "see below", "picture": "/data/upload/3/bad0.png"},
        {"image": "unknown"},
    ],
)
def test_addresses_of_images(data, tmp_path):
    found = task_of(tmp_path, lambda task: task.update(data=data))
    assert found["pictures/bad0.png"].label == "anomalous"


def test_folders_tell_images_of_one_name_apart(tmp_path):
    root = draw_labelstudio(tmp_path)
    shutil.copytree(root / "pictures", root / "more")
    with pytest.raises(DataError, match=r"task 1: image 0123abcd-bad0.png is there 2 times; needed is one file of this name"):
        labelstudio.read(root)

    def change(tasks):
        for task in tasks:
            task["data"]["image"] = "/data/local-files/?d=" + task["data"]["image"].replace("/data/upload/3/0123abcd-", "more/")

    edit(root / TASKS, change)
    samples = by_name(labelstudio.read(root))
    assert (samples["more/bad0.png"].label, samples["pictures/bad0.png"].label) == ("anomalous", "unlabelled")


RECTANGLE = {"type": "rectanglelabels", "value": {"x": 0, "y": 0, "width": 25, "height": 25}}


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([{"type": "ellipselabels"}], r"type ellipselabels cannot be read; allowed are rectangles, polygons, brush strokes"),
        ([{**RECTANGLE, "image_rotation": 90}], r"was drawn on an image turned by 90 degrees; allowed is 0"),
        ([{**RECTANGLE, "original_width": None}], r"has no original_width and original_height; they are needed"),
        ([RECTANGLE, {**RECTANGLE, "original_width": 64}], r"marks are for images of different sizes; an image has one"),
        ([RECTANGLE, {"type": "choices", "value": {"choices": ["Ok"]}}], r"says Ok and marks 1 defects; one of both is wrong"),
        ([{**RECTANGLE, "value": {"x": 1}}], r"has x, y, width, height and rotation \[1, None, None, None, 0\]; allowed are num"),
        ([{**RECTANGLE, "value": {"x": 1, "y": 2, "width": 0, "height": 9}}], r"rectanglelabels has no area inside the image"),
        (
            [{"type": "polygonlabels", "value": {"points": [[1, 2], [3]]}}],
            r"a polygon has points \[\[1, 2\], \[3\]\]; allowed is",
        ),
        ([{"type": "polygonlabels", "value": {"points": [[1, 2], [3, 4]]}}], r"got polygon .*three or more points"),
        ([{"type": "polygonlabels", "value": {}}], r"a polygon has points None; allowed is \[\[x, y\], …\] in per cent"),
        ([{"type": "brushlabels", "value": {"rle": [1, 2]}}], r"brush code ends too early"),
    ],
)
def test_mistakes_name_the_task(results, message, tmp_path):
    with pytest.raises(
        DataError, match=rf"{TASKS}: task 1: .*{message}.*; correct it in Label Studio and export again$"
    ) as caught:
        result_of(tmp_path, *results)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda task: task.pop("annotations"), r"0.annotations is \{.*; field required; correct it or export it again$"),
        (
            lambda task: task.update(data={"text": "x"}, file_upload=None),
            r"task 1: data is .*; needed is the address of an image",
        ),
        (lambda task: task["data"].update(image="/data/upload/x.png"), r"task 1: image x.png is there 0 times; needed is one"),
    ],
)
def test_tasks_without_an_image(change, message, tmp_path):
    with pytest.raises(DataError, match=rf"{TASKS}: {message}"):
        task_of(tmp_path, change)


def test_two_exports(tmp_path):
    shutil.copy(draw_labelstudio(tmp_path) / TASKS, tmp_path / "again.json")
    with pytest.raises(
        DataError, match=r"has 2 exports of Label Studio \(again.json, project.*\); allowed is one; remove the others$"
    ):
        labelstudio.read(tmp_path)


def test_a_rectangle_on_another_size_of_the_image(tmp_path):
    value = {"x": 0, "y": 0, "width": 25, "height": 25, "rectanglelabels": ["Dent"]}
    with pytest.raises(DataError, match=r"task .*: boxes of bad0.png are for 64 x 64 pixels, the upright image has 32 x 32;"):
        result_of(tmp_path, {"type": "rectanglelabels", "value": value, "original_width": 64, "original_height": 64})


@pytest.mark.parametrize("choice", ["No defect", "OK", "none"])
def test_choices_that_say_there_is_no_defect(choice, tmp_path):
    sample = result_of(tmp_path, {"type": "choices", "value": {"choices": [choice]}})
    assert (sample.label, sample.defect) == ("normal", "")
