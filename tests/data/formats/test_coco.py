from __future__ import annotations

import shutil

import pytest

from adjobs.data.dataset import Sample
from adjobs.data.formats import coco
from adjobs.data.labels.masks import Box, Shapes, read_mask
from adjobs.data.reading import ReadContext
from adjobs.errors import DataError
from tests.helpers.datasets import by_id, edit_json
from tests.helpers.drawing import draw_coco

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
        DataError, match=r"has 3 COCO files \(all.json, train/.*\); expected one, or one per split folder; merge them$"
    ):
        coco.read(tmp_path / "set", ReadContext())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": 1, "image_id": 99}, r"annotation 1 is of image 99, which is not listed under images"),
        ({"category_id": 9}, r"annotation 1 has the category 9, which is not listed under categories"),
        ({"bbox": [1, 2, 3]}, r"annotations.0.bbox.3 is \[1, 2, 3\]; field required; fix it or export it again$"),
        ({"bbox": [1, 2, 3, float("inf")]}, r"annotations.0.bbox.3 is inf; input should be a finite number"),
        ({"bbox": None, "segmentation": None}, r"annotation 1: has neither bbox nor segmentation; one of them is required;"),
        ({"bbox": [40, 2, 3, 4]}, r"annotation 1: does not overlap the image of 32 x 32 pixels; fix it or export"),
        ({"segmentation": [[1, 2, 3, 4]]}, r"annotation 1: polygon is \[1, 2, 3, 4\]; expected x, y, x, y, … of three or more"),
        ({"segmentation": {"size": [3, 3], "counts": [9]}}, r"annotation 1: run-length code has size \[3, 3\]"),
        ({"segmentation": 3}, r"annotations.0.segmentation.* is 3; input should be a valid list"),
    ],
)
def test_read_invalid_annotation_is_named(change, message, tmp_path):
    root = draw_coco(tmp_path)
    edit_json(root / COCO_FILE, lambda document: document["annotations"][0].update(change))
    with pytest.raises(DataError, match=rf"instances_default.json: {message}") as raised:
        coco.read(root, ReadContext())
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../bad0.jpg", r"image path '../bad0.jpg' is not inside the data set; .*; fix file_name$"),
        ("x" * 300 + ".jpg", r"image x{80} is neither beside the file nor in images/"),
        ("bad9.jpg", r"image bad9.jpg is neither beside the file nor in images/; copy it there$"),
    ],
)
def test_read_missing_image_is_refused(name, message, tmp_path):
    root = draw_coco(tmp_path)
    edit_json(root / COCO_FILE, lambda document: document["images"][0].update(file_name=name))
    with pytest.raises(DataError, match=message):
        coco.read(root, ReadContext())


def test_read_truncated_json_is_refused(tmp_path):
    path = draw_coco(tmp_path) / COCO_FILE
    path.write_text(path.read_text()[:-20])
    assert coco.recognises(tmp_path)
    with pytest.raises(DataError, match=r"instances_default.json: is not valid JSON \(.* line 1 column .*\); export it again$"):
        coco.read(tmp_path, ReadContext())


@pytest.mark.parametrize("key", ["images", "categories"])
def test_read_repeated_id_is_refused(key, tmp_path):
    root = draw_coco(tmp_path)
    edit_json(root / COCO_FILE, lambda document: document[key][1].update(id=document[key][0]["id"]))
    with pytest.raises(DataError, match=rf"is listed 2 times under {key}; ids must be unique"):
        coco.read(root, ReadContext())


def test_read_boxes_for_another_image_size_are_refused(tmp_path):
    root = draw_coco(tmp_path)
    edit_json(root / COCO_FILE, lambda document: document["images"][2].update(width=64, height=64))
    with pytest.raises(
        DataError, match=r"boxes of bad2.jpg are for 64 x 64 pixels, but the upright image has 32 x 32; both must"
    ):
        coco.read(root, ReadContext())
    (root / "images" / "bad2.jpg").write_bytes(b"not an image")  # reported by the check of the data set
    assert by_id(coco.read(root, ReadContext()))["images/bad2.jpg"].boxes
