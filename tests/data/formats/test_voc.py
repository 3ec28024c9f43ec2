from __future__ import annotations

import shutil

import numpy as np
import pytest

from adjobs.data.formats import voc
from adjobs.data.labels.masks import Box, read_mask
from adjobs.data.reading import ReadContext
from tests.data.make import scene
from tests.helpers.annotated import draw_voc
from tests.helpers.datasets import by_id, open_folder
from tests.helpers.drawing import draw_images, save
from tests.helpers.exports import NO_DIFFERENCE, SCENE_BOXES, boxes, differences, labels, open_export, scene_labels

IMAGES = "JPEGImages/{name}.png"


def read(root):
    """Samples by id, and the problems."""
    context = ReadContext()
    return by_id(voc.read(root, context)), [(problem.sample, problem.message) for problem in context.problems]


def write_object(root, name, text, size=(32, 32)):
    header = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
    (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>{header}<object>{text}</object></annotation>")


def test_read_class_masks_of_datumaro_are_exact(tmp_path):
    dataset = open_export("voc-datumaro-masks", tmp_path / "set", IMAGES)
    assert (dataset.format, differences(dataset)) == ("voc", NO_DIFFERENCE)
    assert labels(dataset) == scene_labels(splits=True)
    assert dataset.problems == ()


def test_read_boxes_of_datumaro_are_exact(tmp_path):
    dataset = open_export("voc-datumaro-boxes", tmp_path / "set", IMAGES)
    assert boxes(dataset) == SCENE_BOXES
    # Images without objects, and those that only a list of classes names, have no XML file.
    assert labels(dataset) == scene_labels(splits=True)


def test_read_polygons_that_datumaro_left_out_are_reported(tmp_path):
    (problem,) = open_export("voc-datumaro-polygons", tmp_path / "set", IMAGES).problems
    assert (problem.kind, problem.severity) == ("annotations lost", "warning")
    assert problem.message.startswith("5 images, such as circle, have no annotation, but lists in ImageSets; Datumaro writes")


def test_read_traced_masks_of_supervision_are_exact(tmp_path):
    dataset = open_export("voc-supervision-masks", tmp_path / "set", IMAGES, scene.BOXES)
    assert differences(dataset) == NO_DIFFERENCE
    assert labels(dataset) == scene_labels(splits=False, names=scene.BOXES)
    assert [problem.kind for problem in dataset.problems] == ["outlines"]


def test_read_boxes_of_fiftyone_cover_the_defects_but_for_a_row(tmp_path):
    dataset = open_export("voc-fiftyone-boxes", tmp_path / "set", "data/{name}.png", scene.BOXES)
    # FiftyOne counts from 0 and rounds down, so that 25.0 became 24 once.
    assert boxes(dataset)["hole"] == [(4, 4, 25, 24)]
    assert boxes(dataset)["two"] == [(1, 1, 7, 7), (29, 19, 34, 28)]


def test_read_masks_boxes_and_lists(tmp_path):
    samples, problems = read(draw_voc(tmp_path))
    mask = np.zeros((32, 32), dtype=bool)
    mask[5:9, 4:8] = True
    assert problems == []
    assert np.array_equal(read_mask(samples["JPEGImages/bad1.jpg"].mask), mask)
    assert (samples["JPEGImages/bad1.jpg"].defect, samples["JPEGImages/bad1.jpg"].published_split) == ("dent", "test")
    assert samples["JPEGImages/bad0.jpg"].boxes == (Box(4, 5, 8, 9),)
    assert (samples["JPEGImages/good00.jpg"].label, samples["JPEGImages/good00.jpg"].published_split) == ("normal", "train")


def test_read_box_outside_the_mask_is_a_defect_too(tmp_path):
    root = draw_voc(tmp_path)
    write_object(root, "bad1", "<name>rust</name><bndbox><xmin>21</xmin><ymin>21</ymin><xmax>24</xmax><ymax>24</ymax></bndbox>")
    sample = read(root)[0]["JPEGImages/bad1.jpg"]
    assert sample.boxes == (Box(4, 5, 8, 9), Box(20, 20, 24, 24))


def test_read_border_of_masks_is_no_defect_and_palettes_are_colors(tmp_path):
    root = draw_voc(tmp_path)
    (root / "labelmap.txt").unlink()
    mask = np.zeros((32, 32, 3), dtype=np.uint8)
    mask[4:10, 3:9] = (224, 224, 192)
    mask[5:9, 4:8] = (0, 128, 0)
    save(root / "SegmentationClass" / "bad1.png", mask)
    sample = read(root)[0]["JPEGImages/bad1.jpg"]
    assert (int(read_mask(sample.mask).sum()), sample.defect) == (16, "dent")


def test_read_object_masks_without_class_masks_have_the_class_of_the_object(tmp_path):
    root = draw_voc(tmp_path)
    (root / "SegmentationClass").rename(root / "SegmentationObject")
    (root / "labelmap.txt").write_text("background:0,0,0::\nrust:128,0,0::\n")
    sample = read(root)[0]["JPEGImages/bad1.jpg"]
    assert (int(read_mask(sample.mask).sum()), sample.defect) == (16, "dent")


def test_read_mask_of_another_size_or_of_many_colors_is_an_error(tmp_path):
    root = draw_voc(tmp_path)
    save(root / "SegmentationClass" / "bad0.png", np.zeros((16, 32, 3), dtype=np.uint8))
    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    save(root / "SegmentationClass" / "bad1.png", noise)
    messages = [message for _, message in read(root)[1]]
    assert "mask SegmentationClass/bad0.png: has 32 x 16 pixels, the image 32 x 32; both must be equal" in messages[0]
    assert "mask SegmentationClass/bad1.png: has 1" in messages[1]
    assert "colours; at most 256 can stand for classes; export it as PNG" in messages[1]


@pytest.mark.parametrize("folder", ["", "train/", "photos/"])
def test_read_files_beside_the_images_and_in_folders(folder, tmp_path):
    draw_images(tmp_path, [f"{folder}good.jpg"], [f"{folder}bad.jpg"])
    edges = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox>"
    for name, text in (("good", ""), ("bad", f"<object><name>dent</name>{edges}</object>")):
        header = f"<filename>{name}.renamed.jpg</filename><size><width>32</width><height>32</height></size>"
        (tmp_path / folder / f"{name}.xml").write_text(f"<annotation>{header}{text}</annotation>")
    dataset = open_folder(tmp_path)
    split = "train" if folder == "train/" else None
    assert labels(dataset) == {"bad": ("anomalous", "dent", split), "good": ("normal", "", split)}
    assert boxes(dataset) == {"bad": [(0, 0, 2, 2)]}
    assert (dataset.format, dataset.problems) == ("voc", ())


def test_read_same_names_in_two_splits(tmp_path):
    draw_images(tmp_path, ["train/a.jpg", "valid/a.jpg"], [])
    for folder in ("train", "valid"):
        (tmp_path / folder / "a.xml").write_text("<annotation><size/></annotation>")
    samples, problems = read(tmp_path)
    assert (len(samples), problems) == (2, [])
    assert samples["valid/a.jpg"].published_split == "val"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<name>dent</name>", "coordinates are [None, None, None, None]; expected numbers in pixels"),
        (
            "<name>dent</name><bndbox><xmin>a</xmin></bndbox>",
            "coordinates are ['a', None, None, None]; expected numbers in pixels",
        ),
        (
            "<bndbox><xmin>9</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox>",
            "box has no area (-6 x 2 pixels)",
        ),
        (
            "<bndbox><xmin>40</xmin><ymin>1</ymin><xmax>42</xmax><ymax>2</ymax></bndbox>",
            "does not overlap the image of 32 x 32 pixels",
        ),
    ],
)
def test_read_object_that_cannot_be_used_is_an_error_of_the_image(text, message, tmp_path):
    root = draw_voc(tmp_path)
    write_object(root, "bad0", text)
    samples, problems = read(root)
    assert problems == [("JPEGImages/bad0.jpg", f"Annotations/bad0.xml: object 1: {message}; fix it or export the file again")]
    assert samples["JPEGImages/bad0.jpg"].label == "anomalous"


def test_read_files_that_cannot_be_used_are_errors(tmp_path):
    root = draw_voc(tmp_path)
    (root / "Annotations" / "bad0.xml").write_text("<annotation><size>")
    (root / "Annotations" / "away.xml").write_text("<annotation><size/></annotation>")
    edges = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox>"
    write_object(root, "good01", edges, size=(64, "x"))
    problems = dict(read(root)[1])
    assert "bad0.xml: is not valid XML" in problems["JPEGImages/bad0.jpg"]
    assert "there is no such image" in problems["Annotations/away.xml: image away"]
    assert "image size is 64 x x; expected width and height in pixels" in problems["JPEGImages/good01.jpg"]


def test_read_image_in_lists_of_two_splits_is_an_error(tmp_path):
    root = draw_voc(tmp_path)
    (root / "ImageSets" / "Main" / "val.txt").write_text("good01\n")
    context = ReadContext()
    voc.read(root, context)
    (problem,) = context.problems
    assert (problem.sample, problem.kind) == ("JPEGImages/good01.jpg", "annotation")
    assert "the lists in ImageSets name the image for train and val; an image belongs to one split" in problem.message


def test_read_file_that_labelimg_marks_as_verified(tmp_path):
    root = draw_voc(tmp_path)
    before = read(root)
    for path in (root / "Annotations").glob("*.xml"):
        path.write_text(path.read_text().replace("<annotation>", '<annotation verified="yes">'))
    assert read(root) == before


@pytest.mark.parametrize("text", ["", " \n", "<?xml version='1.0'?>\n<anno", "<annotation><filename>good01.jpg</filename>"])
@pytest.mark.parametrize("folder", ["Annotations", "JPEGImages"])
def test_read_empty_or_cut_off_file_is_an_error_of_its_image(text, folder, tmp_path):
    shutil.rmtree(draw_voc(tmp_path) / "ImageSets")
    (tmp_path / "Annotations" / "good01.xml").unlink()
    (tmp_path / folder / "good01.xml").write_text(text)
    _, [(sample, message)] = read(tmp_path)
    assert sample == "JPEGImages/good01.jpg"
    assert f"{folder}/good01.xml: " in message
    assert ("is empty" if not text.strip() else "is not valid XML") in message


def test_read_xml_of_something_else_is_left_alone(tmp_path):
    draw_voc(tmp_path)
    (tmp_path / "notes.xml").write_text("<notes>")
    (tmp_path / "JPEGImages" / "good00.xml").write_text("<metadata/>")
    assert read(tmp_path)[1] == []


@pytest.mark.parametrize("encoding", ["ISO-8859-1", "windows-1252", "GBK", "UTF-16"])
def test_read_declared_encodings(encoding, tmp_path):
    draw_voc(tmp_path)
    path, name = tmp_path / "Annotations" / "bad0.xml", "瑕疵" if encoding == "GBK" else "Kratzer tief, größer"
    text = path.read_text().replace("dent", name)
    path.write_bytes(f'<?xml version="1.0" encoding="{encoding}"?>\n{text}'.encode(encoding))
    samples, problems = read(tmp_path)
    assert problems == []
    assert samples["JPEGImages/bad0.jpg"].defect == name.replace(",", "")


@pytest.mark.parametrize("encoding", ["no-such-encoding", "rot13", "ascii"])
def test_read_wrong_encoding_is_an_error_of_the_image(encoding, tmp_path):
    draw_voc(tmp_path)
    path = tmp_path / "Annotations" / "bad0.xml"
    path.write_bytes(f'<?xml version="1.0" encoding="{encoding}"?>{path.read_text()}'.replace("dent", "ä").encode("latin-1"))
    _, [(sample, message)] = read(tmp_path)
    assert sample == "JPEGImages/bad0.jpg"
    assert f"cannot be read as utf-8-sig or {encoding}; export it in UTF-8" in message
