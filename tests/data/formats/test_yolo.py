from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adjobs.data.dataset import Sample
from adjobs.data.formats import yolo
from adjobs.data.labels.masks import Box, Shapes
from adjobs.data.problem import Problem
from adjobs.data.reading import ReadContext
from adjobs.errors import DataError
from tests.helpers.datasets import by_id, open_folder
from tests.helpers.drawing import draw_images, draw_yolo, save


def test_read_boxes_outlines_and_empty_files(tmp_path):
    samples = by_id(yolo.read(draw_yolo(tmp_path), ReadContext()))
    boxes, outline = samples["images/train/bad.jpg"], samples["images/test/bad.jpg"]
    assert (boxes.boxes, boxes.mask) == ((Box(12, 8, 20, 24), Box(0, 0, 8, 8)), None)
    assert (boxes.label, boxes.defect, boxes.published_split) == ("anomalous", "scratch", "train")
    assert outline.mask == Shapes(("[[8.0, 8.0, 24.0, 8.0, 24.0, 16.0]]",), 32, 32)
    assert (outline.defect, outline.published_split, outline.boxes) == ("dent", "test", None)
    empty, missing = samples["images/train/good00.jpg"], samples["images/val/good00.jpg"]
    assert (empty.label, missing.label, missing.published_split) == ("normal", "normal", "val")


def problems_of(root: Path) -> list[Problem]:
    context = ReadContext()
    yolo.read(root, context)
    return context.problems


def yolo_of(root: Path, text: str, size: tuple[int, int] = (40, 20)) -> Sample:
    """The sample of one image of this width and height with this label file."""
    save(root / "images" / "sub" / "x.png", np.zeros((size[1], size[0]), dtype=np.uint8))
    path = root / "labels" / "sub" / "x.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return by_id(yolo.read(root, ReadContext()))["images/sub/x.png"]


def test_read_six_decimals_give_whole_pixels(tmp_path):
    # A box of columns 1 to 3 and rows 2 to 5 of 30 x 30, written with six decimals.
    sample = yolo_of(tmp_path, "0 0.066667 0.116667 0.066667 0.100000\n", (30, 30))
    assert sample.boxes == (Box(1, 2, 3, 5),)


def test_read_box_beside_an_outline_gives_clipped_boxes(tmp_path):
    sample = yolo_of(tmp_path, "0 0.95 0.5 0.104 1\n1 0.25 0.25 0.5 0.25 0.5 0.5\n\n")
    assert sample.boxes == (Box(35.92, 0, 40, 20), Box(10, 5, 20, 10))
    assert (sample.mask, sample.defect) == (None, "class 0")


def test_read_rotated_image_uses_upright_size(tmp_path):
    yolo_of(tmp_path, "0 0.5 0.5 0.5 0.5\n")
    image = Image.new("L", (40, 20))
    image.getexif()[0x0112] = 6
    image.save(tmp_path / "images" / "sub" / "x.png", exif=image.getexif())
    assert by_id(yolo.read(tmp_path, ReadContext()))["images/sub/x.png"].boxes == (Box(5, 10, 15, 30),)


@pytest.mark.parametrize(
    ("file", "text", "name"),
    [
        ("classes.txt", "scratch\ndent, deep\n", "dent deep"),
        ("labels/classes.txt", "scratch\ndent\n", "dent"),
        ("data.yaml", "names:\n  0: scratch\n  1: dent\n", "dent"),
        ("dataset.yaml", "names: [scratch, dent]\n", "dent"),
        ("unused.txt", "", "class 1"),
    ],
)
def test_read_class_names_are_defect_types(file, text, name, tmp_path):
    (tmp_path / "labels").mkdir()
    (tmp_path / file).write_text(text)
    assert yolo_of(tmp_path, "1 0.5 0.5 0.5 0.5\n").defect == name


def test_read_images_and_labels_in_split_folders(tmp_path):
    draw_images(tmp_path, ["train/images/a.jpg", "test/images/c.jpg"], ["valid/images/b.jpg"])
    (tmp_path / "train" / "labels").mkdir()
    (tmp_path / "valid" / "labels").mkdir()
    (tmp_path / "valid" / "labels" / "b.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    assert yolo.recognises(tmp_path)
    # The test split has no folder of labels, so nobody labelled it.
    assert {name: (s.label, s.published_split) for name, s in by_id(yolo.read(tmp_path, ReadContext())).items()} == {
        "train/images/a.jpg": ("normal", "train"),
        "valid/images/b.jpg": ("anomalous", "val"),
        "test/images/c.jpg": ("unlabelled", "test"),
    }


def test_recognises_masks_in_labels_folder_is_false(tmp_path):
    # Without text files, every image would count as normal.
    draw_images(tmp_path, ["images/a.png", "labels/a.png"], [])
    assert not yolo.recognises(tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.5", r"\(3 numbers after the class\); expected '<class> <x> <y> <width> <height>' or"),
        ("0 0.5 0.5 0.5 0.5 0.9", r"\(5 numbers after the class\)"),
        ("0 0.1 0.1 0.2 0.1 0.2 0.2 0.3", r"\(7 numbers after the class\)"),
        ("0 0.5 0.5 0.5 wide", r"\(could not convert string to float: 'wide'\)"),
        ("scratch 0.5 0.5 0.5 0.5", r"\(invalid literal for int"),
        ("2 0.5 0.5 0.5 0.5", r"\(class 2 has no name\)"),
        ("-1 0.5 0.5 0.5 0.5", r"\(class -1 has no name\)"),
        ("0 0.5 0.5 1.5 0.5", r"\(outside the image\)"),
        ("0 320 240 100 100", r"\(outside the image\)"),
        ("0 0.5 0.5 nan 0.5", r"\(outside the image\)"),
        ("0 0.5 0.5 0 0.5", r"\(no area\)"),
    ],
)
def test_read_invalid_line_is_named(line, message, tmp_path):
    (tmp_path / "classes.txt").write_text("scratch\ndent\n")
    yolo_of(tmp_path, f"0 0.5 0.5 0.5 0.5\n{line}\n{line}\n")
    problems = problems_of(tmp_path)
    assert [(problem.sample, problem.kind) for problem in problems] == [("images/sub/x.png", "annotation")] * 2
    assert re.search(rf"^labels/sub/x.txt: line 2 is .*{message}.* from 0 to 1; fix it or", problems[0].message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names: 3", r"data.yaml: names is 3; expected a list"),
        ("[", r"data.yaml: is not valid YAML"),
        ("3", r"names is None; expected"),
    ],
)
def test_read_invalid_class_names_are_refused(text, message, tmp_path):
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(DataError, match=message):
        yolo_of(tmp_path, "")


def test_read_image_outside_the_layout_is_refused(tmp_path):
    root = draw_yolo(tmp_path)
    shutil.copy(root / "images" / "train" / "bad.jpg", root / "images" / "bad.jpg")
    with pytest.raises(DataError, match=r"images/bad.jpg: does not fit the layout; images belong in images/x.jpg"):
        open_folder(root)


def test_read_label_file_without_image_is_an_error(tmp_path):
    yolo_of(tmp_path, "0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "labels" / "typo.txt").write_text("")
    ((name, kind, message, _),) = [vars(problem).values() for problem in problems_of(tmp_path)]
    assert (name, kind) == ("labels/typo.txt", "annotation")
    assert message == "belongs to no image; labels/x.txt is for images/x.jpg in images/; rename or remove it"


def test_read_two_images_of_one_stem_are_errors(tmp_path):
    yolo_of(tmp_path, "0 0.5 0.5 0.5 0.5\n")
    save(tmp_path / "images" / "sub" / "x.jpg", np.zeros((20, 40), dtype=np.uint8))
    problems = problems_of(tmp_path)
    assert [problem.sample for problem in problems] == ["images/sub/x.jpg", "images/sub/x.png"]
    assert "2 images share this label file; names of images must differ without suffix, too" in problems[0].message


def test_read_label_file_that_is_no_text_is_an_error(tmp_path):
    yolo_of(tmp_path, "")
    (tmp_path / "labels" / "sub" / "x.txt").write_bytes(b"\xff")
    (problem,) = problems_of(tmp_path)
    assert (problem.sample, "expected a text file in UTF-8" in problem.message) == ("images/sub/x.png", True)


def test_read_class_that_means_normal_makes_no_defect(tmp_path):
    (tmp_path / "classes.txt").write_text("OK\ndent\n")
    sample = yolo_of(tmp_path, "0 0.5 0.5 0.5 0.5\n")
    assert (sample.label, sample.boxes) == ("normal", None)
    assert [problem.kind for problem in problems_of(tmp_path)] == ["normal class"]


def test_read_file_names_in_another_unicode_form_are_matched(tmp_path):
    save(tmp_path / "images" / "Geha\u0308use.png", np.zeros((20, 40), dtype=np.uint8))
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "Gehäuse.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    assert [sample.label for sample in yolo.read(tmp_path, ReadContext())] == ["anomalous"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("notes.json", r"^1 images have an empty label file and are normal, but Label Studio writes such files also for images"),
        ("images/other.png", r"but 1 others have none, and exporters write empty ones for images with masks or brush strokes"),
        ("nothing", None),
    ],
)
def test_read_empty_label_files_of_lost_labels_are_reported(more, message, tmp_path):
    yolo_of(tmp_path, "\n")
    if more == "notes.json":
        (tmp_path / more).write_text('{"categories": [], "info": {"contributor": "Label Studio"}}')
    if more.startswith("images"):
        save(tmp_path / more, np.zeros((20, 40), dtype=np.uint8))
    problems = problems_of(tmp_path)
    assert [(problem.sample, problem.severity) for problem in problems] == ([("", "warning")] if message else [])
    assert not message or re.search(message, problems[0].message)


def test_read_linked_labels_with_capital_suffix_are_used(tmp_path):
    yolo_of(tmp_path / "set", "0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "set" / "labels" / "sub").rename(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "x.txt").rename(tmp_path / "elsewhere" / "x.TXT")
    (tmp_path / "set" / "labels" / "sub").symlink_to(tmp_path / "elsewhere")
    assert yolo.recognises(tmp_path / "set")
    assert by_id(yolo.read(tmp_path / "set", ReadContext()))["images/sub/x.png"].label == "anomalous"


def test_read_unreadable_image_is_left_to_the_check(tmp_path):
    yolo_of(tmp_path, "0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "images" / "sub" / "x.png").write_bytes(b"not an image")
    (sample,) = yolo.read(tmp_path, ReadContext())
    assert (sample.label, sample.boxes, sample.mask) == ("anomalous", None, None)


def test_read_label_files_beside_the_images(tmp_path):
    draw_images(tmp_path, ["obj_Train_data/good.png", "obj_train_data/lost.png"], ["obj_val_data/bad.png"])
    (tmp_path / "obj_val_data" / "bad.txt").write_text("1 0.5 0.5 0.25 0.5\n")
    (tmp_path / "obj_train_data" / "lost.txt").touch()
    (tmp_path / "obj.names").write_text("scratch\ndent\n")
    context = ReadContext()
    samples = by_id(yolo.read(tmp_path, context))
    sample = samples["obj_val_data/bad.png"]
    assert (sample.defect, sample.boxes, sample.published_split) == ("dent", (Box(12, 8, 20, 24),), "val")
    assert samples["obj_Train_data/good.png"].published_split == "train"
    assert [problem.message for problem in context.problems] == [
        "1 images have an empty label file and are normal, but Datumaro and CVAT (YOLO 1.1) write such files also for images "
        "with polygons or masks; export as COCO instead"
    ]


def write_lines(root: Path, lines: list[str]) -> None:
    for number, line in enumerate(lines):
        save(root / "images" / f"{number}.png", np.zeros((100, 100), dtype=np.uint8))
        (root / "labels").mkdir(exist_ok=True)
        (root / "labels" / f"{number}.txt").write_text(line)


def test_read_poses_that_the_yaml_declares_gives_their_boxes(tmp_path):
    write_lines(tmp_path, ["0 0.5 0.5 0.2 0.4 0.45 0.5 2 0 0 0", "0 0.5 0.5 0.2 0.4", "0 0.5 0.5 0.2 0.4 0.45 0.5"])
    (tmp_path / "data.yaml").write_text("names: [dent]\nkpt_shape: [2, 3]\n")
    context = ReadContext()
    samples = by_id(yolo.read(tmp_path, context))
    assert samples["images/0.png"].boxes == samples["images/1.png"].boxes == (Box(40, 30, 60, 70),)
    error, warning = context.problems
    assert (error.sample, error.severity) == ("images/2.png", "error")
    assert "6 numbers after the class; by kpt_shape in data.yaml there are 4 or 10" in error.message
    assert (warning.kind, warning.severity) == ("key points", "warning")


@pytest.mark.parametrize("shape", ["17", "[2]", "[0, 3]", "[2, 4]", "[2, yes]"])
def test_read_odd_shape_of_key_points_is_refused(shape, tmp_path):
    write_lines(tmp_path, ["0 0.5 0.5 0.2 0.4"])
    (tmp_path / "data.yaml").write_text(f"names: [dent]\nkpt_shape: {shape}\n")
    with pytest.raises(DataError, match=r"expected \[number of key points, 2 or 3\]"):
        yolo.read(tmp_path, ReadContext())


@pytest.mark.parametrize(
    ("line", "kinds"),
    [
        ("0 0.5 0.5 0.2 0.4 0.45 0.5 0.55 0.6", ["key points"]),
        ("0 0.5 0.5 0.2 0.4 0.45 0.5 1 0 0 0", ["key points"]),
        ("0 0.4 0.3 0.6 0.3 0.6 0.7 0.4 0.7", []),  # an outline
    ],
)
def test_read_lines_like_poses_warns_if_all_are(line, kinds, tmp_path):
    write_lines(tmp_path, [line] * 5)
    assert [problem.kind for problem in problems_of(tmp_path)] == kinds
    (tmp_path / "labels" / "4.txt").write_text("0 0.4 0.3 0.6 0.3 0.6 0.7")
    assert problems_of(tmp_path) == []
