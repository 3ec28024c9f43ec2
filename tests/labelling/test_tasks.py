from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import unquote

import pytest

from adjobs.data.dataset import Sample
from adjobs.data.formats import labelstudio
from adjobs.data.labels.masks import Box
from adjobs.data.reading import ReadContext
from adjobs.errors import DataError, StorageError
from adjobs.inference.regions import Region
from adjobs.labelling.images import ImageSource
from adjobs.labelling.suggest import Suggestion, SuggestResult
from adjobs.labelling.tasks import (
    check_config_path,
    is_task_file,
    label_config,
    local_address,
    make_task,
    missing_controls,
    unshown,
    write_tasks,
)
from tests.helpers.detectors import draw_image
from tests.helpers.label_studio import ANSWERS

REGIONS = (Region(40, 24, 81, 47), Region(0, 0, 3, 96))


def suggested(path: Path, regions: tuple[Region, ...] = REGIONS) -> tuple[Suggestion, SuggestResult]:
    decision = "anomalous" if regions else "normal"
    item = Suggestion(ImageSource(path), "ab" * 32, (160, 96), 2.5, decision, regions, 0.9, 0.4, "near the threshold")
    return item, SuggestResult((item,), "models:/line/3", 2.25, 1, (), (), 0, ())


def accepted(root: Path, regions: tuple[Region, ...]) -> Sample:
    """What the reader of exports makes of a prediction that a person has accepted as it is."""
    item, result = suggested(draw_image(root, "a.png"), regions)
    task = make_task(item, local_address(item.source.path, root), result)
    export = [{"id": 1, "data": task["data"], "annotations": task["predictions"]}]
    (root / "export.json").write_text(json.dumps(export))
    context = ReadContext()
    (sample,) = labelstudio.read(root, context)
    assert context.problems == []
    return sample


def test_task_has_image_reason_and_prediction(tmp_path):
    item, result = suggested(tmp_path / "a.png")
    task = make_task(item, "s3://line/a.png", result)
    assert task["data"] == {
        "image": "s3://line/a.png",
        "name": "a.png",
        "sha256": "ab" * 32,
        "score": 2.5,
        "threshold": 2.25,
        "reason": "near the threshold",
    }
    (prediction,) = task["predictions"]
    assert (prediction["model_version"], prediction["score"]) == ("models:/line/3", 2.5)
    assert [entry["id"] for entry in prediction["result"]] == ["abababab-0", "abababab-1", "abababab-2"]
    assert prediction["result"][1]["value"]["x"] == 25


def test_task_that_is_accepted_has_the_boxes_of_the_regions(tmp_path):
    sample = accepted(tmp_path, REGIONS)
    assert (sample.label, sample.boxes) == ("anomalous", (Box(40, 24, 81, 47), Box(0, 0, 3, 96)))


def test_task_that_is_accepted_without_regions_is_normal(tmp_path):
    sample = accepted(tmp_path, ())
    assert (sample.label, sample.boxes) == ("normal", None)


def test_label_config_has_the_controls_that_tasks_need():
    config = label_config(("scratch", 'a "b" & <c>', "defect"))
    assert missing_controls(config) == []
    assert config.count('value="defect"') == 2
    assert "&quot;b&quot; &amp; &lt;c&gt;" in config


def test_missing_controls_of_the_config_that_label_studio_stored_are_none():
    assert missing_controls(ANSWERS["projects"]["results"][0]["label_config"]) == []


@pytest.mark.parametrize(
    ("old", "new", "missing"),
    [
        ('name="label"', 'name="other"', '<Choices name="label"'),
        ('value="normal"', 'value="fine"', "the choice normal"),
        ('value="$image"', 'value="$photo"', '<Image name="image"'),
        ("RectangleLabels", "PolygonLabels", '<RectangleLabels name="box"'),
        ("<View>", "<Viev>", "valid XML"),
        ("<View>", "<!DOCTYPE x><View>", "XML without a DOCTYPE"),
    ],
)
def test_missing_controls_names_what_is_missing(old, new, missing):
    assert missing_controls(label_config().replace(old, new))[0].startswith(missing)


def test_local_address_is_relative_and_quoted(tmp_path):
    address = local_address(tmp_path / "line 3" / "ä#1.png", tmp_path)
    assert address == "/data/local-files/?d=line%203/%C3%A4%231.png"
    assert unquote(address).endswith("line 3/ä#1.png")
    with pytest.raises(DataError, match="is not in the image root"):
        local_address(tmp_path / "a.png", tmp_path / "line")


def test_write_tasks_can_be_replaced_by_others_only(tmp_path):
    item, result = suggested(tmp_path / "a.png")
    path = tmp_path / "tasks.json"
    config = write_tasks([make_task(item, "s3://a/a.png", result)], label_config(), path)
    assert (config.name, is_task_file(path)) == ("tasks.xml", True)
    check_config_path(path)
    config.write_text("<View/>")
    with pytest.raises(StorageError, match="not a labelling configuration of adjobs"):
        check_config_path(path)
    path.write_text(json.dumps(ANSWERS["export"]))
    assert not is_task_file(path)  # annotations of people


def test_check_config_path_refuses_the_name_of_the_configuration(tmp_path):
    with pytest.raises(StorageError, match=r"give a name that ends in \.json"):
        check_config_path(tmp_path / "tasks.xml")


def test_unshown_are_images_that_browsers_do_not_show():
    sources = [ImageSource(Path(name)) for name in ("a.png", "b.TIF", "c.JPG", "d.tiff")]
    assert [source.path.name for source in unshown(sources)] == ["b.TIF", "d.tiff"]
