from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from adjobs.data.dataset import Sample
from adjobs.data.formats import coco
from adjobs.data.labels.masks import Box, Shapes, read_mask
from adjobs.errors import DataError
from tests.helpers.drawing import draw_coco

COCO_FILE = "annotations/instances_default.json"


def by_name(samples: list[Sample]) -> dict[str, Sample]:
    assert len({sample.id for sample in samples}) == len(samples)
    return {sample.id: sample for sample in samples}


def edit(path: Path, change) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_the_drawn_one(tmp_path):
    samples = by_name(coco.read(draw_coco(tmp_path)))
    two, crowd, box = (samples[f"images/bad{i}.jpg"] for i in range(3))
    assert two.mask == Shapes(("[[4, 4, 13, 4, 13, 9, 4, 9]]", "[[20, 20, 23, 20, 23, 23]]"), 32, 32)
    assert (two.label, two.defect, two.boxes, two.published_split) == ("anomalous", "scratch deep", None, None)
    assert int(read_mask(crowd.mask).sum()) == 96
    assert read_mask(crowd.mask)[:, 2:5].all()
    assert (box.mask, box.boxes, box.defect) == (None, (Box(1.5, 2, 11.5, 22.25),), "scratch deep")
    assert samples["images/good00.jpg"] == Sample("images/good00.jpg", tmp_path / "images" / "good00.jpg", "normal")


def test_boxes_only_where_one_outline_is_missing(tmp_path):
    root = draw_coco(tmp_path)

    def change(document):
        document["annotations"][1] |= {"segmentation": None, "bbox": [20, -1, 30, 5]}
        del document["annotations"][0]["bbox"], document["annotations"][0]["area"], document["annotations"][1]["area"]

    edit(root / COCO_FILE, change)
    sample = by_name(coco.read(root))["images/bad0.jpg"]
    # The first box is that of its outline, the second is cut off at the edge, and the larger of the two.
    assert (sample.mask, sample.boxes, sample.defect) == (None, (Box(4, 4, 13, 9), Box(20, 0, 32, 4)), "dent")


def test_images_that_are_not_listed_are_unlabelled(tmp_path):
    root = draw_coco(tmp_path)
    edit(root / COCO_FILE, lambda document: document["images"].pop())
    assert by_name(coco.read(root))["images/good13.jpg"].label == "unlabelled"


def test_beside_the_images_and_parts_in_their_names(tmp_path):
    root = draw_coco(tmp_path)
    shutil.move(root / COCO_FILE, root / "_annotations.coco.json")
    shutil.move(root / "images", root / "train")

    def change(document):
        for image in document["images"]:
            image["file_name"] = "train/" + image["file_name"]

    edit(root / "_annotations.coco.json", change)
    (root / "other.json").write_text('{"images": "of something else"}')
    (root / "broken.json").write_bytes(b"\xff")
    samples = by_name(coco.read(root))
    assert samples["train/bad0.jpg"].published_split == "train"


def test_with_a_document_in_each_part(tmp_path):
    draw_coco(tmp_path / "drawn")
    for part in ("train", "valid"):
        shutil.copytree(tmp_path / "drawn" / "images", tmp_path / "set" / part)
        shutil.copy(tmp_path / "drawn" / COCO_FILE, tmp_path / "set" / part / "_annotations.coco.json")
    samples = by_name(coco.read(tmp_path / "set"))
    assert (len(samples), samples["train/bad0.jpg"].published_split, samples["valid/bad0.jpg"].published_split) == (
        34,
        "train",
        "val",
    )
    shutil.copy(tmp_path / "drawn" / COCO_FILE, tmp_path / "set" / "all.json")
    with pytest.raises(
        DataError, match=r"has 3 COCO files \(all.json, train/.*\); allowed is one, or one in each part; merge them$"
    ):
        coco.read(tmp_path / "set")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": 1, "image_id": 99}, r"annotation 1 is of image 99, which is not listed; allowed are the ids under images"),
        ({"category_id": 9}, r"annotation 1 has category 9, which is not listed; allowed are the ids under categories"),
        ({"bbox": [1, 2, 3]}, r"annotations.0.bbox.3 is \[1, 2, 3\]; field required; correct it or export it again$"),
        ({"bbox": [1, 2, 3, float("inf")]}, r"annotations.0.bbox.3 is inf; input should be a finite number"),
        ({"bbox": None, "segmentation": None}, r"annotation 1: has neither bbox nor segmentation; one of them is needed;"),
        ({"bbox": [40, 2, 3, 4]}, r"annotation 1: covers nothing of the image of 32 x 32 pixels; correct it or export"),
        ({"segmentation": [[1, 2, 3, 4]]}, r"annotation 1: got polygon \[1, 2, 3, 4\]; allowed are x and y of three or more"),
        ({"segmentation": {"size": [3, 3], "counts": [9]}}, r"annotation 1: got a run-length code of size \[3, 3\]"),
        ({"segmentation": 3}, r"annotations.0.segmentation.* is 3; input should be a valid list"),
    ],
)
def test_mistakes_name_the_annotation(change, message, tmp_path):
    root = draw_coco(tmp_path)
    edit(root / COCO_FILE, lambda document: document["annotations"][0].update(change))
    with pytest.raises(DataError, match=rf"instances_default.json: {message}") as caught:
        coco.read(root)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../bad0.jpg", r"image path '../bad0.jpg' is not inside the data set; .*; correct file_name$"),
        ("x" * 300 + ".jpg", r"image x{80} is neither beside it nor in images/"),
        ("bad9.jpg", r"image bad9.jpg is neither beside it nor in images/; all images are needed; copy it there$"),
    ],
)
def test_images_that_are_not_there(name, message, tmp_path):
    root = draw_coco(tmp_path)
    edit(root / COCO_FILE, lambda document: document["images"][0].update(file_name=name))
    with pytest.raises(DataError, match=message):
        coco.read(root)


def test_that_is_cut_off(tmp_path):
    path = draw_coco(tmp_path) / COCO_FILE
    path.write_text(path.read_text()[:-20])
    assert coco.recognises(tmp_path)
    with pytest.raises(DataError, match=r"instances_default.json: is no JSON \(.* line 1 column .*\); export it again$"):
        coco.read(tmp_path)


@pytest.mark.parametrize("key", ["images", "categories"])
def test_an_id_that_is_there_twice(key, tmp_path):
    root = draw_coco(tmp_path)
    edit(root / COCO_FILE, lambda document: document[key][1].update(id=document[key][0]["id"]))
    with pytest.raises(DataError, match=rf"is 2 times under {key}; allowed is once"):
        coco.read(root)


def test_boxes_for_another_size_of_the_image(tmp_path):
    root = draw_coco(tmp_path)
    edit(root / COCO_FILE, lambda document: document["images"][2].update(width=64, height=64))
    with pytest.raises(DataError, match=r"boxes of bad2.jpg are for 64 x 64 pixels, the upright image has 32 x 32; both must"):
        coco.read(root)
    (root / "images" / "bad2.jpg").write_bytes(b"no image")  # left to the check of the data
    assert by_name(coco.read(root))["images/bad2.jpg"].boxes
