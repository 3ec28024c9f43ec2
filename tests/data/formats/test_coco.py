from __future__ import annotations

import re
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adjobs.data.checks.preflight import check_dataset, without_invalid
from adjobs.data.dataset import Sample
from adjobs.data.formats import coco
from adjobs.data.labels.masks import Box, Shapes, read_mask
from adjobs.data.reading import ReadContext
from adjobs.errors import DataError
from tests.helpers.datasets import by_id, edit_json, open_folder
from tests.helpers.drawing import draw_coco, save

COCO_FILE = "annotations/instances_default.json"


def test_read_polygons_codes_and_boxes(tmp_path):
    samples = by_id(coco.read(draw_coco(tmp_path), ReadContext()))
    two, crowd, box = (samples[f"images/bad{i}.jpg"] for i in range(3))
    assert two.mask == Shapes(("[[4, 4, 13, 4, 13, 9, 4, 9]]", "[[20, 20, 23, 20, 23, 23]]"), 32, 32)
    assert (two.label, two.defect, two.boxes, two.published_split) == ("anomalous", "scratch deep", None, None)
    assert int(read_mask(crowd.mask).sum()) == 96
    assert read_mask(crowd.mask)[:, 2:5].all()
    assert (box.mask, box.boxes, box.defect) == (None, (Box(1.5, 2, 11.5, 22.25),), "scratch deep")
    assert samples["images/good00.jpg"] == Sample("images/good00.jpg", tmp_path / "images" / "good00.jpg", "normal")


def test_read_one_outline_missing_gives_boxes(tmp_path):
    root = draw_coco(tmp_path)

    def change(document):
        document["annotations"][1] |= {"segmentation": None, "bbox": [20, -1, 30, 5]}
        del document["annotations"][0]["bbox"], document["annotations"][0]["area"], document["annotations"][1]["area"]

    edit_json(root / COCO_FILE, change)
    sample = by_id(coco.read(root, ReadContext()))["images/bad0.jpg"]
    # The first box is that of its outline; the second is clipped at the edge and the larger of the two.
    assert (sample.mask, sample.boxes, sample.defect) == (None, (Box(4, 4, 13, 9), Box(20, 0, 32, 4)), "dent")


def test_read_unlisted_image_is_unlabelled(tmp_path):
    root = draw_coco(tmp_path)
    edit_json(root / COCO_FILE, lambda document: document["images"].pop())
    assert by_id(coco.read(root, ReadContext()))["images/good13.jpg"].label == "unlabelled"


def test_read_split_folders_in_file_names_are_splits(tmp_path):
    root = draw_coco(tmp_path)
    shutil.move(root / COCO_FILE, root / "_annotations.coco.json")
    shutil.move(root / "images", root / "train")

    def change(document):
        for image in document["images"]:
            image["file_name"] = "train/" + image["file_name"]

    edit_json(root / "_annotations.coco.json", change)
    (root / "other.json").write_text('{"images": "of something else"}')
    (root / "broken.json").write_bytes(b"\xff")
    samples = by_id(coco.read(root, ReadContext()))
    assert samples["train/bad0.jpg"].published_split == "train"


def test_read_one_document_per_split_folder(tmp_path):
    draw_coco(tmp_path / "drawn")
    for folder in ("train", "valid"):
        shutil.copytree(tmp_path / "drawn" / "images", tmp_path / "set" / folder)
        shutil.copy(tmp_path / "drawn" / COCO_FILE, tmp_path / "set" / folder / "_annotations.coco.json")
    samples = by_id(coco.read(tmp_path / "set", ReadContext()))
    assert (len(samples), samples["train/bad0.jpg"].published_split, samples["valid/bad0.jpg"].published_split) == (
        34,
        "train",
        "val",
    )
    shutil.copy(tmp_path / "drawn" / COCO_FILE, tmp_path / "set" / "all.json")
    with pytest.raises(
        DataError, match=r"has 3 COCO files \(all.json, train/.*\); expected one, one per split folder, or annotations/instances_"
    ):
        coco.read(tmp_path / "set", ReadContext())


def read_changed(root: Path, change: Callable[[Any], object]) -> tuple[dict[str, Sample], list[tuple[str, str, str]]]:
    """Samples by id, and (sample, kind, message) of the problems, after a change of the drawn document."""
    edit_json(draw_coco(root) / COCO_FILE, change)
    context = ReadContext()
    samples = by_id(coco.read(root, context))
    return samples, [(problem.sample, problem.kind, problem.message) for problem in context.problems]


@pytest.mark.parametrize(
    ("change", "sample", "message"),
    [
        ({"image_id": 99}, f"{COCO_FILE}: annotations.3 (4)", r"^is of image 99, which is not listed under images;"),
        ({"category_id": 9}, "images/bad2.jpg", r"annotation 4 has the category 9, which is not listed under categories;"),
        ({"bbox": [1, 2, 3]}, "images/bad2.jpg", r"annotation 4: box is \[1, 2, 3\]; expected four numbers in pixels; fix it or"),
        ({"bbox": [1, 2, 3, float("inf")]}, "images/bad2.jpg", r"annotation 4: box is \[1, 2, 4, inf\]; expected four numbers"),
        ({"bbox": None}, "images/bad2.jpg", r"annotation 4: has neither box nor outline; one is required;"),
        ({"bbox": []}, "images/bad2.jpg", r"annotation 4: has neither box nor outline; one is required;"),
        ({"bbox": [40, 2, 3, 4]}, "images/bad2.jpg", r"annotation 4: does not overlap the image of 32 x 32 pixels; fix it or"),
        ({"bbox": [4, 2, 3, 0]}, "images/bad2.jpg", r"annotation 4: box has no area \(3 x 0 pixels\);"),
        (
            {"bbox": [0.25, 0.25, 0.25, 0.25]},
            "images/bad2.jpg",
            r"annotation 4: coordinates look like shares of the image's size",
        ),
        ({"bbox": [], "segmentation": [[1, 2, 3, 4]]}, "images/bad2.jpg", r"annotation 4: polygon is \[1, 2, 3, 4\]; expected"),
        ({"bbox": [], "segmentation": [[]]}, "images/bad2.jpg", r"annotation 4: polygon is \[\]; expected"),
        ({"bbox": [], "segmentation": 3}, "images/bad2.jpg", r"annotation 4: segmentation is 3; expected a list of polygons"),
        (
            {"image_id": None},
            "",
            r"annotations.3 \(4\): image_id is None; input should be a valid string",
        ),
        ({"category_id": None}, "images/bad2.jpg", r"annotations.3 \(4\): category_id is None; input should be a valid string;"),
    ],
)
def test_read_invalid_annotation_is_an_error_of_its_image(change, sample, message, tmp_path):
    samples, problems = read_changed(tmp_path, lambda document: document["annotations"][3].update(change))
    assert len(samples) == 17
    ((name, kind, text),) = problems
    assert (name, kind) == (sample, "annotation")
    assert re.search(message, text)
    assert text.endswith("fix it or export the file again")


def test_read_all_problems_are_found_at_once(tmp_path):
    def change(document):
        for annotation in document["annotations"]:
            annotation |= {"bbox": [5, 5, 9, 0], "segmentation": [[1, 2, 3, 4]]}
        document["images"][3]["file_name"] = "none.jpg"
        document["images"][4] = {"id": 4}

    samples, problems = read_changed(tmp_path, change)
    assert [problem[0] for problem in problems] == [
        f"{COCO_FILE}: images.4",
        "images/bad0.jpg",
        "images/bad0.jpg",
        "images/bad1.jpg",
        "images/bad2.jpg",
        f"{COCO_FILE}: image none.jpg",
    ]
    assert [name for name, sample in samples.items() if sample.label == "unlabelled"] == [
        "images/good00.jpg",
        "images/good01.jpg",
    ]


def test_read_box_beside_a_useless_outline_is_used(tmp_path):
    samples, problems = read_changed(tmp_path, lambda document: document["annotations"][2].update(segmentation=[[4, 1, 4, 9]]))
    assert samples["images/bad1.jpg"].boxes == (Box(2, 0, 5, 32),)
    assert [problem[:2] for problem in problems] == [("images/bad1.jpg", "outline not used")]


def test_read_crowds_are_defects(tmp_path):
    samples, problems = read_changed(tmp_path, lambda document: [item.update(iscrowd=1) for item in document["annotations"]])
    assert [samples[f"images/bad{i}.jpg"].label for i in range(3)] == ["anomalous"] * 3
    assert problems == []


def test_read_category_that_means_normal_makes_no_defect(tmp_path):
    samples, problems = read_changed(tmp_path, lambda document: document["categories"][1].update(name="Good"))
    assert (samples["images/bad1.jpg"].label, samples["images/bad0.jpg"].defect) == ("normal", "scratch deep")
    assert [(problem[0], problem[1]) for problem in problems] == [("", "normal class")]


def test_read_ids_as_text_and_numbers_are_equal(tmp_path):
    def change(document):
        for annotation in document["annotations"]:
            annotation |= {"image_id": str(annotation["image_id"]), "category_id": str(annotation["category_id"])}

    samples, problems = read_changed(tmp_path, change)
    assert (samples["images/bad0.jpg"].label, problems) == ("anomalous", [])


@pytest.mark.parametrize("size", [None, 0])
def test_read_unknown_size_is_that_of_the_image(size, tmp_path):
    samples, problems = read_changed(tmp_path, lambda document: document["images"][0].update(width=size, height=size))
    assert (samples["images/bad0.jpg"].mask.width, problems) == (32, [])


@pytest.mark.parametrize(("form", "other"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_read_file_names_in_another_unicode_form_are_matched(form, other, tmp_path):
    root, name = draw_coco(tmp_path), "Gehäuse.jpg"
    (root / "images" / "bad0.jpg").rename(root / "images" / unicodedata.normalize(form, name))
    edit_json(root / COCO_FILE, lambda document: document["images"][0].update(file_name=unicodedata.normalize(other, name)))
    assert by_id(coco.read(root, ReadContext()))["images/" + unicodedata.normalize(form, name)].label == "anomalous"


def test_read_slashes_of_windows_are_matched(tmp_path):
    samples, problems = read_changed(tmp_path, lambda document: document["images"][0].update(file_name="images\\bad0.jpg"))
    assert (samples["images/bad0.jpg"].label, problems) == ("anomalous", [])


def test_read_subset_folders_are_published_splits(tmp_path):
    # As Datumaro and CVAT write them: images/<subset>/x.jpg and annotations/instances_<subset>.json.
    drawn = draw_coco(tmp_path / "drawn")
    for subset in ("Train", "val2017", "Line 3"):
        shutil.copytree(drawn / "images", tmp_path / "set" / "images" / subset)
        (tmp_path / "set" / "annotations").mkdir(exist_ok=True)
        shutil.copy(drawn / COCO_FILE, tmp_path / "set" / "annotations" / f"instances_{subset}.json")
    shutil.copy(drawn / COCO_FILE, tmp_path / "set" / "annotations" / "captions_Train.json")
    samples = by_id(coco.read(tmp_path / "set", ReadContext()))
    assert len(samples) == 51
    splits = [samples[f"images/{subset}/bad0.jpg"].published_split for subset in ("Train", "val2017", "Line 3")]
    assert splits == ["train", "val", None]


def test_read_default_subset_folder_is_no_split(tmp_path):
    root = draw_coco(tmp_path)
    (root / "images").rename(root / "default")
    (root / "images").mkdir()
    (root / "default").rename(root / "images" / "default")
    sample = by_id(coco.read(root, ReadContext()))["images/default/bad0.jpg"]
    assert (sample.label, sample.published_split) == ("anomalous", None)


# As supervision 0.31.2 (area of the mask), Datumaro 1.13.12 (simplified) and Label Studio SDK 2.1.2 (BRUSH_TO_COCO) wrote an
# ellipse of 41 pixels that is 9 wide and 7 high; pycocotools draws 30 of them.
TRACED = [26, 27, 26, 29, 29, 32, 30, 32, 31, 33, 34, 33, 34, 31, 31, 28, 30, 28, 29, 27]


@pytest.mark.parametrize("area", [41.0, 31.0, 30])
def test_read_traced_outlines_have_the_pixels_of_the_mask(area, tmp_path):
    root = draw_coco(tmp_path)
    save(root / "images" / "bad0.jpg", np.zeros((64, 64), np.uint8))
    traced = {"segmentation": [TRACED], "bbox": [26, 27, 9, 7], "area": area}
    line = {"segmentation": [], "bbox": [10, 20, 40, 1], "area": 40.0}  # both exporters write no outline of a thin line

    def change(document):
        document["images"][0] |= {"width": 64, "height": 64}
        document["annotations"][0] |= traced
        document["annotations"][1] |= line

    edit_json(root / COCO_FILE, change)
    context = ReadContext()
    mask = read_mask(by_id(coco.read(root, context))["images/bad0.jpg"].mask)
    assert (int(mask.sum()), int(mask[27:34, 26:35].sum()), int(mask[20, 10:50].sum())) == (81, 41, 40)
    assert [(problem.sample, problem.kind) for problem in context.problems] == [("", "outlines")]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "../bad0.jpg",
            r"path '../bad0.jpg' is not inside the data set; .*; correct file_name; fix it or export the file again$",
        ),
        ("x" * 300 + ".jpg", r"is neither beside the file nor in images/; copy it there;"),
        ("bad9.jpg", r"is neither beside the file nor in images/; copy it there; fix it or export the file again$"),
    ],
)
def test_read_missing_image_is_an_error(name, message, tmp_path):
    samples, problems = read_changed(tmp_path, lambda document: document["images"][0].update(file_name=name))
    assert samples["images/bad0.jpg"].label == "unlabelled"
    ((sample, _, text),) = problems
    assert sample.startswith(f"{COCO_FILE}: image {name[:60]}")
    assert re.search(message, text)


def test_read_truncated_json_is_refused(tmp_path):
    path = draw_coco(tmp_path) / COCO_FILE
    path.write_text(path.read_text()[:-20])
    assert coco.recognises(tmp_path)
    with pytest.raises(DataError, match=r"instances_default.json: is not valid JSON \(.* line 1 column .*\); export it again$"):
        coco.read(tmp_path, ReadContext())


def test_read_repeated_category_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"id 1 is listed 2 times under categories; ids must be unique"):
        read_changed(tmp_path, lambda document: document["categories"][1].update(id="1"))


def test_read_repeated_image_id_is_an_error_of_both(tmp_path):
    _, problems = read_changed(tmp_path, lambda document: document["images"][1].update(id=0))
    named = [sample for sample, _, text in problems if "id 0 is listed 2 times under images; ids must be unique" in text]
    assert named == ["images/bad0.jpg", "images/bad1.jpg"]


def test_read_boxes_for_another_image_size_are_an_error(tmp_path):
    _, problems = read_changed(tmp_path, lambda document: document["images"][2].update(width=64, height=64))
    ((sample, _, text),) = problems
    assert sample == "images/bad2.jpg"
    assert "boxes of bad2.jpg are for 64 x 64 pixels, but the upright image has 32 x 32; both must be equal" in text
    (tmp_path / "images" / "bad2.jpg").write_bytes(b"not an image")  # reported by the check of the data set
    context = ReadContext()
    assert by_id(coco.read(tmp_path, context))["images/bad2.jpg"].boxes
    assert context.problems == []


def test_read_images_in_data_and_panoptic_masks_in_annotations(tmp_path):
    root = draw_coco(tmp_path)
    shutil.move(root / "images", root / "data")
    shutil.copytree(root / "data", root / "annotations" / "panoptic_train")
    samples = coco.read(root, ReadContext())
    assert {sample.id.split("/")[0] for sample in samples} == {"data"}
    assert by_id(samples)["data/bad0.jpg"].label == "anomalous"


def test_check_dataset_leaves_out_images_with_invalid_annotations(tmp_path):
    root = draw_coco(tmp_path)
    edit_json(root / COCO_FILE, lambda document: document["annotations"][1].update(bbox=[], segmentation=[[]]))
    dataset = open_folder(root)
    problems = check_dataset(dataset)
    errors = [(problem.sample, problem.kind) for problem in problems if problem.severity == "error"]
    assert errors == [("images/bad0.jpg", "annotation")]
    valid = without_invalid(dataset, problems)
    assert {sample.id for sample in dataset.samples} - {sample.id for sample in valid.samples} == {"images/bad0.jpg"}


def test_read_ids_that_are_whole_floating_point_numbers_are_the_integers(tmp_path):
    root = draw_coco(tmp_path)
    before = coco.read(root, ReadContext())

    def change(document):
        for annotation in document["annotations"]:
            annotation.update(image_id=float(annotation["image_id"]), category_id=float(annotation["category_id"]))

    edit_json(root / COCO_FILE, change)
    context = ReadContext()
    assert coco.read(root, context) == before
    assert context.problems == []
