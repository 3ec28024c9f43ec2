from __future__ import annotations

import re
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adjobs.data.dataset import Sample
from adjobs.data.formats import labelstudio
from adjobs.data.labels.masks import Box, Shapes, read_mask
from adjobs.data.reading import ReadContext
from adjobs.errors import DataError
from tests.helpers.datasets import by_id, edit_json, pack_rle
from tests.helpers.drawing import draw_labelstudio

TASKS = "project-3-at-2026-01-31.json"


def read_changed(root: Path, change: Callable[[Any], object]) -> tuple[dict[str, Sample], list[tuple[str, str]]]:
    """Samples and (sample, message) of the problems after a change of the first task: ``bad0.png`` with a rectangle."""
    edit_json(draw_labelstudio(root) / TASKS, lambda tasks: change(tasks[0]))
    context = ReadContext()
    samples = by_id(labelstudio.read(root, context))
    return samples, [(problem.sample, problem.message) for problem in context.problems]


def samples_of(root: Path, change: Callable[[Any], object]) -> dict[str, Sample]:
    samples, problems = read_changed(root, change)
    assert problems == []
    return samples


def with_results(*results: dict[str, Any]) -> Callable[[Any], object]:
    """A change that gives the first task these results, on an image of 32 x 32 pixels."""
    size = {"original_width": 32, "original_height": 32, "image_rotation": 0}
    return lambda task: task["annotations"][0].update(result=[size | result for result in results])


def sample_of(root: Path, *results: dict[str, Any]) -> Sample:
    """The sample of an image of 32 x 32 pixels with these results."""
    return samples_of(root, with_results(*results))["images/bad0.png"]


def test_read_rectangles_polygons_and_choices(tmp_path):
    samples = by_id(labelstudio.read(draw_labelstudio(tmp_path), ReadContext()))
    box, polygon, choice = (samples[f"images/bad{i}.png"] for i in range(3))
    assert (box.boxes, box.mask, box.label, box.defect) == ((Box(8, 4, 24, 12),), None, "anomalous", "Scratch")
    assert (polygon.mask, polygon.defect) == (Shapes(("[[8.0, 8.0, 24.0, 8.0, 24.0, 16.0]]",), 32, 32), "Dent")
    assert (choice.label, choice.mask, choice.boxes, choice.defect) == ("anomalous", None, None, "")
    assert samples["images/good00.png"].label == "normal"
    assert samples["images/skipped.png"].label == samples["images/new.png"].label == "unlabelled"


def test_read_brush_strokes_are_a_mask(tmp_path):
    painted = np.zeros((32, 32), dtype=bool)
    painted[3:9, 4:6] = True
    value = {"format": "rle", "rle": pack_rle(np.repeat(painted.ravel(), 4) * 255), "brushlabels": ["Oil"]}
    erased = {"format": "rle", "rle": pack_rle(np.zeros(32 * 32 * 4, dtype=int)), "brushlabels": ["Rust"]}
    results = [{"type": "brushlabels", "value": stroke} for stroke in (value, erased)]
    sample = sample_of(tmp_path, *results)
    assert np.array_equal(read_mask(sample.mask), painted)
    assert sample.defect == "Oil"


def test_read_ellipse_is_a_mask(tmp_path):
    # 16 x 8 pixels around (16, 12), and the same turned by 90 degrees.
    value = {"x": 50, "y": 37.5, "radiusX": 25, "radiusY": 12.5, "rotation": 0, "ellipselabels": ["Stain"]}
    upright = read_mask(sample_of(tmp_path / "a", {"type": "ellipselabels", "value": value}).mask)
    turned = read_mask(sample_of(tmp_path / "b", {"type": "ellipselabels", "value": {**value, "rotation": 90}}).mask)
    y, x = np.mgrid[:32, :32] + 0.5
    assert np.array_equal(upright, ((x - 16) / 8) ** 2 + ((y - 12) / 4) ** 2 <= 1)
    assert np.array_equal(turned, ((x - 16) / 4) ** 2 + ((y - 12) / 8) ** 2 <= 1)


def test_read_rotated_rectangle_is_its_bounding_box(tmp_path):
    # 16 x 8 pixels, rotated clockwise by 90 degrees around the corner at (16, 8): it extends to the left of that corner.
    value = {"x": 50, "y": 25, "width": 50, "height": 25, "rotation": 90, "rectanglelabels": ["Dent"]}
    assert sample_of(tmp_path, {"type": "rectanglelabels", "value": value}).boxes == (Box(8, 8, 16, 24),)


def test_read_one_rectangle_makes_all_regions_boxes(tmp_path):
    rectangle = {"x": 0, "y": 0, "width": 25, "height": 25, "rectanglelabels": ["Small"]}
    polygon = {"points": [[25, 25], [101, 25], [75, 50]], "polygonlabels": ["Large, wide"]}
    sample = sample_of(tmp_path, {"type": "rectanglelabels", "value": rectangle}, {"type": "polygonlabels", "value": polygon})
    assert (sample.boxes, sample.mask, sample.defect) == ((Box(0, 0, 8, 8), Box(8, 8, 32, 16)), None, "Large wide")


def test_read_label_in_a_second_result_is_the_defect(tmp_path):
    shape = {"x": 0, "y": 0, "width": 25, "height": 25}
    results = [
        {"id": "r", "type": "rectangle", "value": shape},
        {"id": "r", "type": "labels", "value": {**shape, "labels": ["Dent"]}},
        {"id": "t", "type": "textarea", "value": {"text": ["not sure"]}},
        {"type": "relation", "from_id": "r", "to_id": "t"},
    ]
    assert sample_of(tmp_path, *results).defect == "Dent"


def test_read_choices_about_a_region_do_not_label_the_image(tmp_path):
    shape = {"x": 0, "y": 0, "width": 25, "height": 25, "rectanglelabels": ["Dent"]}
    results = [
        {"id": "r", "type": "rectanglelabels", "value": shape},
        {"id": "r", "type": "choices", "value": {"choices": ["OK"]}},
    ]
    assert sample_of(tmp_path, *results).defect == "Dent"


@pytest.mark.parametrize(
    ("choices", "label", "defect"),
    [
        (["OK"], "normal", ""),
        (["NG"], "anomalous", ""),
        (["Bent, pin"], "anomalous", "Bent pin"),
        (["good", "dirt"], "anomalous", "dirt"),
    ],
)
def test_read_choices_label_the_image(choices, label, defect, tmp_path):
    sample = sample_of(tmp_path, {"type": "choices", "value": {"choices": choices}})
    assert (sample.label, sample.defect) == (label, defect)


def test_read_several_annotations_use_ground_truth_then_latest(tmp_path):
    def annotation(choice, **more):
        return {"result": [{"type": "choices", "value": {"choices": [choice]}}], **more}

    early = annotation("early", updated_at="2026-01-01T00:00:00Z")
    late = annotation("late", updated_at="2026-02-01T00:00:00Z")
    truth = annotation("truth", updated_at="2025-01-01T00:00:00Z", ground_truth=True)
    skipped = annotation("skipped", updated_at="2026-03-01T00:00:00Z", was_cancelled=True)
    for versions, defect in (([late, early, skipped], "late"), ([truth, late, skipped], "truth")):
        shutil.rmtree(tmp_path / "set", ignore_errors=True)
        samples, problems = read_changed(tmp_path / "set", lambda task, versions=versions: task.update(annotations=versions))
        assert samples["images/bad0.png"].defect == defect
        assert len(problems) == (defect == "late")  # the ground truth settles it


def test_read_annotators_who_disagree_are_reported(tmp_path):
    normal = {"result": [{"type": "choices", "value": {"choices": ["OK"]}}], "updated_at": "2026-03-01T00:00:00Z"}
    samples, problems = read_changed(tmp_path, lambda task: task["annotations"].append(normal))
    assert samples["images/bad0.png"].label == "normal"
    message = f"{TASKS}: task 1: 2 annotations disagree (anomalous, normal); the latest is used; mark one as ground truth"
    assert problems == [("images/bad0.png", message)]


@pytest.mark.parametrize(
    "data",
    [
        {"image": "https://host/bucket/bad0.png?X-Amz-Signature=a/b"},
        {"image": "s3://bucket/some/bad0.png"},
        {"image": "/data/local-files/?d=line%203/images/bad0.png"},
        {"image": "/data/upload/3/bad0.png"},
        {"note": "see below", "photo": "/data/upload/3/bad0.png"},
        {"image": "unknown"},
        {"image": "s3://bucket/line 1/bad0.png"},
        {"image": "s3://bucket/line[1]/bad0.png"},
    ],
)
def test_read_image_addresses_are_matched_by_name(data, tmp_path):
    samples = samples_of(tmp_path, lambda task: task.update(data=data))
    assert samples["images/bad0.png"].label == "anomalous"


@pytest.mark.parametrize("name", ["part#0.png", "100%20.png", "what?.png", "Gehäuse.png", "Geha\u0308use.png"])
def test_read_raw_addresses_are_taken_literally_first(name, tmp_path):
    root = draw_labelstudio(tmp_path)
    (root / "images" / "bad0.png").rename(root / "images" / name)
    address = f"s3://bucket/line 1/{unicodedata.normalize('NFC', name)}"
    edit_json(root / TASKS, lambda tasks: tasks[0].update(data={"image": address}, file_upload=None))
    assert by_id(labelstudio.read(root, ReadContext()))[f"images/{name}"].label == "anomalous"


def test_read_images_of_one_name_are_matched_by_folder(tmp_path):
    root = draw_labelstudio(tmp_path)
    shutil.copytree(root / "images", root / "more")
    context = ReadContext()
    labelstudio.read(root, context)
    assert [problem.sample for problem in context.problems][:2] == [f"{TASKS}: task 1", f"{TASKS}: task 2"]
    assert context.problems[0].message.startswith("found 2 images named 0123abcd-bad0.png beside the export; expected one; ")

    def change(tasks):
        for task in tasks:
            task["data"]["image"] = "/data/local-files/?d=" + task["data"]["image"].replace("/data/upload/3/0123abcd-", "more/")

    edit_json(root / TASKS, change)
    samples = by_id(labelstudio.read(root, ReadContext()))
    assert (samples["more/bad0.png"].label, samples["images/bad0.png"].label) == ("anomalous", "unlabelled")


RECTANGLE = {"type": "rectanglelabels", "value": {"x": 0, "y": 0, "width": 25, "height": 25}}


@pytest.mark.parametrize(
    ("results", "message"),
    [
        (
            [{"type": "keypointlabels"}],
            r"type keypointlabels is not supported; allowed are rectangles, polygons, ell",
        ),
        (
            [{"type": "ellipselabels"}],
            r"an ellipse has x, y, radiusX, radiusY and rotation \[None, None, None, ",
        ),
        ([{**RECTANGLE, "image_rotation": 90}], r"was drawn on an image rotated by 90 degrees; only 0 is supported"),
        ([{**RECTANGLE, "original_width": None}], r"has no original_width and original_height; both are required"),
        ([RECTANGLE, {**RECTANGLE, "original_width": 64}], r"regions refer to images of different sizes; all must refer"),
        (
            [RECTANGLE, {"type": "choices", "value": {"choices": ["Ok"]}}],
            r"the choice Ok contradicts the 1 drawn defects; one of them is wrong",
        ),
        ([{**RECTANGLE, "value": {"x": 1}}], r"has x, y, width, height and rotation \[1, None, None, None, 0\]; all must be num"),
        ([{**RECTANGLE, "value": {"x": 1, "y": 2, "width": 0, "height": 9}}], r"a rectanglelabels: box has no area"),
        (
            [{"type": "polygonlabels", "value": {"points": [[1, 2], [3]]}}],
            r"a polygon has points \[\[1, 2\], \[3\]\]; expected",
        ),
        ([{"type": "polygonlabels", "value": {"points": [[1, 2], [3, 4]]}}], r"polygon is .*three or more points"),
        ([{"type": "polygonlabels", "value": {}}], r"a polygon has points None; expected \[\[x, y\], …\] in per cent"),
        ([{"type": "brushlabels", "value": {"rle": [1, 2]}}], r"brush code ends too early"),
    ],
)
def test_read_invalid_result_names_the_task(results, message, tmp_path):
    _, problems = read_changed(tmp_path, with_results(*results))
    assert {sample for sample, _ in problems} == {"images/bad0.png"}
    assert re.search(rf"^{TASKS}: task 1: .*{message}.*; fix it or export the file again$", problems[0][1])
    assert "\n" not in problems[0][1]


def test_read_all_invalid_results_are_named(tmp_path):
    invalid = {"id": "x", "type": "polygonlabels", "value": {}}
    _, problems = read_changed(tmp_path, with_results(RECTANGLE, invalid, {**invalid, "id": "y"}))
    assert [message.split(": ")[2] for _, message in problems] == ["region x", "region y"]


def test_read_region_of_a_class_that_means_normal_is_no_defect(tmp_path):
    value = {"x": 0, "y": 0, "width": 25, "height": 25, "rectanglelabels": ["OK"]}
    samples, problems = read_changed(tmp_path, with_results({"type": "rectanglelabels", "value": value}))
    assert samples["images/bad0.png"].label == "normal"
    assert [sample for sample, _ in problems] == [""]


def test_read_two_tasks_of_one_image_are_an_error(tmp_path):
    root = draw_labelstudio(tmp_path)
    edit_json(root / TASKS, lambda tasks: tasks.append({**tasks[0], "id": 99}))
    context = ReadContext()
    by_id(labelstudio.read(root, context))
    ((sample, message),) = [(problem.sample, problem.message) for problem in context.problems]
    assert (sample, message) == (f"{TASKS}: task 99", "is about images/bad0.png, as an earlier task; remove one of the two")


@pytest.mark.parametrize(
    ("change", "sample", "message"),
    [
        (lambda task: task.pop("annotations"), "task number 1", r"^annotations is \{.*; field required; fix it"),
        (
            lambda task: task.update(data={"text": "x"}, file_upload=None),
            "task 1",
            r"^data is .*; expected the address of an image",
        ),
        (
            lambda task: task["data"].update(image="/data/upload/x.png"),
            "task 1",
            r"^found 0 images named x.png beside the export; expected one; fix it in Label Studio and export again$",
        ),
    ],
)
def test_read_task_without_image_is_an_error(change, sample, message, tmp_path):
    samples, problems = read_changed(tmp_path, lambda task: (task.update(file_upload=None), change(task)))
    assert samples["images/bad0.png"].label == "unlabelled"
    assert [name for name, _ in problems] == [f"{TASKS}: {sample}"]
    assert re.search(message, problems[0][1])


def test_read_two_exports_are_refused(tmp_path):
    shutil.copy(draw_labelstudio(tmp_path) / TASKS, tmp_path / "again.json")
    with pytest.raises(
        DataError, match=r"has 2 exports of Label Studio \(again.json, project.*\); expected one; remove the others$"
    ):
        labelstudio.read(tmp_path, ReadContext())


def test_read_boxes_for_another_image_size_are_an_error(tmp_path):
    value = {"x": 0, "y": 0, "width": 25, "height": 25, "rectanglelabels": ["Dent"]}
    result = {"type": "rectanglelabels", "value": value, "original_width": 64, "original_height": 64}
    _, problems = read_changed(tmp_path, with_results(result))
    assert [sample for sample, _ in problems] == ["images/bad0.png"]
    assert "boxes of bad0.png are for 64 x 64 pixels, but the upright image has 32 x 32;" in problems[0][1]


@pytest.mark.parametrize("choice", ["No defect", "OK", "none"])
def test_read_choice_without_defect_is_normal(choice, tmp_path):
    sample = sample_of(tmp_path, {"type": "choices", "value": {"choices": [choice]}})
    assert (sample.label, sample.defect) == ("normal", "")


def test_read_upload_prefix_is_removed_only_at_the_start_of_the_name(tmp_path):
    root = draw_labelstudio(tmp_path)
    edit_json(root / TASKS, lambda tasks: tasks[0].update(data={"image": "/data/bad-0a1b2c3d-0.png"}, file_upload=None))
    (root / "images" / "bad0.png").rename(root / "images" / "bad-0.png")
    context = ReadContext()
    assert by_id(labelstudio.read(root, context))["images/bad-0.png"].label == "unlabelled"
    assert [problem.kind for problem in context.problems] == ["annotation"]


def test_read_upload_of_a_name_with_spaces_and_signs(tmp_path):
    # As Label Studio 1.23.2 names uploads.
    def rename(task):
        (tmp_path / "images" / "bad0.png").rename(tmp_path / "images" / "ä q (1).png")
        task["data"]["image"] = "/data/upload/7/8cd978a9-%C3%A4_q_1.png"

    assert samples_of(tmp_path, rename)["images/ä q (1).png"].boxes == (Box(8, 4, 24, 12),)


def test_read_upload_whose_name_fits_two_images_is_an_error(tmp_path):
    def rename(task):
        for name in ("a b.png", "a (b).png"):
            shutil.copy(tmp_path / "images" / "bad0.png", tmp_path / "images" / name)
        task.update(data={"image": "/data/upload/7/8cd978a9-a_b.png"}, file_upload=None)

    _, problems = read_changed(tmp_path, rename)
    assert "found 2 images named 8cd978a9-a_b.png" in problems[0][1]
