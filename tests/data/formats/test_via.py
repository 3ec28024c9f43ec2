from __future__ import annotations

import json

import pytest

from adjobs.data.formats import via
from adjobs.data.labels.masks import Box, read_mask
from adjobs.data.reading import ReadContext
from adjobs.errors import DataError
from tests.helpers.annotated import draw_via
from tests.helpers.datasets import by_id, edit_json
from tests.helpers.exports import ONLY_THE_HOLE, SCENE_BOXES, boxes, differences, labels, open_export, scene_labels

FILE = "via_region_data.json"


def read(root):
    """Samples by id, and the problems."""
    context = ReadContext()
    return by_id(via.read(root, context)), [(problem.sample, problem.message) for problem in context.problems]


def test_read_json_polygons_and_circles_are_exact(tmp_path):
    dataset = open_export("via-json-polygons", tmp_path / "set")
    assert (dataset.format, dataset.problems, differences(dataset)) == ("via", (), ONLY_THE_HOLE)
    assert labels(dataset) == scene_labels(splits=False)


def test_read_csv_ellipses(tmp_path):
    dataset = open_export("via-csv-ellipses", tmp_path / "set")
    assert (dataset.format, dataset.problems, differences(dataset)["circle"]) == ("via", (), 0)
    assert labels(dataset) == scene_labels(splits=False)


def test_read_project_boxes_are_exact(tmp_path):
    assert boxes(open_export("via-project-boxes", tmp_path / "set")) == SCENE_BOXES


def test_read_attributes_of_files_and_missing_images(tmp_path):
    root = draw_via(tmp_path)
    edit_json(root / FILE, lambda document: document["good00.png100"].update(file_attributes={"caption": "x", "ok": "yes"}))
    samples, problems = read(root)
    assert (samples["bad2.png"].label, samples["bad2.png"].defect) == ("anomalous", "dent")
    assert (samples["good00.png"].label, samples["new.png"].label) == ("normal", "unlabelled")
    assert [text.partition(":")[0] for _, text in problems] == ["attribute 'caption' of images is not used"]


def test_read_attribute_of_a_file_that_is_null_is_not_set(tmp_path):
    root = draw_via(tmp_path)
    before = read(root)
    edit_json(root / FILE, lambda document: document["good00.png100"]["file_attributes"].update(scratch=None))
    assert read(root) == before


def test_read_first_version_and_turned_ellipse(tmp_path):
    root = draw_via(tmp_path)
    ellipse = {"name": "ellipse", "cx": 16, "cy": 16, "rx": 8, "ry": 2, "theta": 1.5707963}
    regions = {"0": {"shape_attributes": ellipse, "region_attributes": {"severity": "2", "type": {"dent": True, "rust": False}}}}
    edit_json(root / FILE, lambda document: document["bad0.png100"].update(regions=regions, fileref="", base64_img_data=""))
    sample = read(root)[0]["bad0.png"]
    rows, columns = read_mask(sample.mask).nonzero()
    assert (rows.min(), rows.max(), columns.min(), columns.max(), sample.defect) == (8, 23, 14, 17, "dent")


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ({"shape_attributes": {"name": "polyline"}}, "region 1: shape is 'polyline', which marks no area; outline the defect"),
        ({"shape_attributes": {"name": "point", "cx": 1, "cy": 2}}, "region 1: shape is 'point', which marks no area"),
        ({"shape_attributes": {"name": "rect", "x": 1}}, "region 1: coordinates are ['1', None, None, None]; expected numbers"),
        ({"shape_attributes": {"name": "circle", "cx": 1, "cy": 2, "r": -3}}, "ellipse has the radii -3 and -3; they must be"),
        (
            {"shape_attributes": {"name": "polygon", "all_points_x": [1, 2]}},
            "polygon has not as many values of x as",
        ),
        ({"shape_attributes": {"name": "polygon", "all_points_x": 3, "all_points_y": 3}}, "polygon has not as many"),
        ({"shape_attributes": None}, "region 1: shape_attributes is None; input should be a valid dictionary"),
    ],
)
def test_read_region_that_cannot_be_used_is_an_error_of_the_image(region, message, tmp_path):
    root = draw_via(tmp_path)
    edit_json(root / FILE, lambda document: document["bad1.png100"].update(regions=[region]))
    samples, problems = read(root)
    assert samples["bad1.png"].label == "anomalous"
    ((sample, text),) = problems
    assert sample == "bad1.png"
    assert message in text


def test_read_image_that_cannot_be_used_is_an_error(tmp_path):
    root = draw_via(tmp_path)
    edit_json(root / FILE, lambda document: document.update(a={"filename": "away.png"}, b={"regions": []}))
    problems = dict(read(root)[1])
    assert "there is no such image" in problems[f"{FILE}: image away.png"]
    assert "filename is {'regions': []}; field required" in problems[f"{FILE}: image 18"]


def test_read_csv_line_with_a_comma_in_the_file_name_is_refused(tmp_path):
    root = draw_via(tmp_path)
    (root / FILE).unlink()
    header = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"
    (root / "via_region_data.csv").write_text(f'{header}\nbad0, left.png,100,"{{}}",0,0,"{{}}","{{}}"\n')
    with pytest.raises(DataError, match=r"line 2 is bad0, left.png.*; VIA does not quote commas in file names; export as JSON$"):
        read(root)


def test_read_several_files_are_refused(tmp_path):
    root = draw_via(tmp_path)
    (root / "copy.json").write_text((root / FILE).read_text())
    with pytest.raises(
        DataError, match=r"has 2 files of VIA \(copy.json, via_region_data.json\); expected one; remove the others$"
    ):
        read(root)


def test_read_rectangle_is_a_box(tmp_path):
    root = draw_via(tmp_path)
    assert json.loads((root / FILE).read_text())["bad1.png100"]["regions"]
    assert read(root)[0]["bad1.png"].boxes == (Box(1.5, 2, 11.5, 22.25),)
