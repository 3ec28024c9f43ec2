from __future__ import annotations

import copy
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from adjobs.data.formats import labelstudio
from adjobs.data.labels.masks import Box
from adjobs.data.open import open_dataset
from adjobs.data.reading import ReadContext
from adjobs.errors import LabelStudioError, StorageError
from adjobs.labelling import inbox
from adjobs.labelling.inbox import LABELS_FILE, fetch_annotations
from adjobs.labelling.tasks import label_config
from tests.helpers.datasets import by_id
from tests.helpers.detectors import draw_image
from tests.helpers.label_studio import ANSWERS, LabelStudio

BOX_OF_A_PERSON = Box(7, 11, 64, 90)  # drawn in the export that the real server gave
BOX_OF_THE_MODEL = Box(30, 20, 70, 40)  # accepted there


@pytest.fixture
def project(server: LabelStudio, tmp_path) -> dict[str, Any]:
    """A project with the export of the real server, whose images are uploads."""
    tasks = copy.deepcopy(ANSWERS["export"])
    for brightness, task in enumerate(tasks):
        content = draw_image(tmp_path / "drawn", task["data"]["name"], brightness=brightness).read_bytes()
        address = task["data"]["image"] = f"/data/upload/1/0000000{brightness}-{task['id']}.png"
        server.files[address] = content
        task["data"]["sha256"] = sha256(content).hexdigest()
    return server.add_project("line-3", label_config(), tasks)


def test_fetch_is_a_data_set_with_boxes_at_their_pixels(client, project, tmp_path):
    result = fetch_annotations(client, "line-3", tmp_path / "inbox")
    assert (result.annotated, result.downloaded, result.skipped) == (3, 3, 1)
    context = ReadContext()
    samples = by_id(labelstudio.read(tmp_path / "inbox", context))
    assert context.problems == []
    assert {name.partition("-")[2]: (sample.label, sample.boxes, sample.defect) for name, sample in samples.items()} == {
        "scratch 1.png": ("anomalous", (BOX_OF_THE_MODEL,), "defect"),
        "dent ä.png": ("anomalous", (BOX_OF_A_PERSON,), "scratch"),
        "clean.png": ("normal", None, ""),
    }
    assert open_dataset(str(tmp_path / "inbox"), cache=tmp_path).format == "labelstudio"


def test_fetch_again_downloads_what_is_new_and_brings_labels_up_to_date(client, server, project, tmp_path):
    fetch_annotations(client, "line-3", tmp_path / "inbox")
    task = project["tasks"][0]
    task["annotations"][0]["result"] = [entry for entry in task["annotations"][0]["result"] if entry["type"] == "choices"]
    server.requests.clear()
    result = fetch_annotations(client, "line-3", tmp_path / "inbox")
    assert (result.annotated, result.downloaded) == (3, 0)
    assert not [request for request in server.requests if "/data/" in request]
    samples = by_id(labelstudio.read(tmp_path / "inbox", ReadContext()))
    assert samples[f"{task['id']}-scratch 1.png"].boxes is None


def test_fetch_image_that_was_damaged_on_the_disk_is_refused(client, project, tmp_path):
    fetch_annotations(client, "line-3", tmp_path / "inbox")
    image = next((tmp_path / "inbox").glob("*clean.png"))
    image.write_bytes(b"changed")
    with pytest.raises(StorageError, match="or has been changed since"):
        fetch_annotations(client, "line-3", tmp_path / "inbox")
    assert image.read_bytes() == b"changed"


def test_fetch_image_that_is_another_is_refused_and_no_labels_are_written(client, project, tmp_path):
    project["tasks"][1]["data"]["sha256"] = "0" * 64
    with pytest.raises(LabelStudioError, match=r"its image has sha256 .*, must be 000000000000; the image was replaced"):
        fetch_annotations(client, "line-3", tmp_path / "inbox")
    assert not (tmp_path / "inbox" / LABELS_FILE).exists()
    assert not list((tmp_path / "inbox").glob("*dent*"))


def test_fetch_into_the_folder_of_another_project_is_refused(client, server, project, tmp_path):
    fetch_annotations(client, "line-3", tmp_path / "inbox")
    server.add_project("line-4", label_config(), project["tasks"])
    with pytest.raises(StorageError, match=r"has the labels of .*/projects/1; choose another folder"):
        fetch_annotations(client, "line-4", tmp_path / "inbox")


def test_fetch_keeps_a_labels_file_that_is_none_of_ours(client, project, tmp_path):
    (tmp_path / LABELS_FILE).write_text("[1]")
    with pytest.raises(StorageError, match=r"labels\.json: is not a file of 'adjobs label fetch'"):
        fetch_annotations(client, "line-3", tmp_path)


def test_fetch_keeps_an_image_that_it_has_not_fetched(client, project, tmp_path):
    (tmp_path / "inbox").mkdir()
    name = sorted(path.name for path in fetch_annotations(client, "line-3", tmp_path / "other").out.glob("*.png"))[0]
    theirs = tmp_path / "inbox" / name
    theirs.write_bytes(b"the user's")
    with pytest.raises(StorageError, match=r"exists and was not written by 'adjobs label fetch'"):
        fetch_annotations(client, "line-3", tmp_path / "inbox")
    assert theirs.read_bytes() == b"the user's"
    assert [path.name for path in (tmp_path / "inbox").iterdir()] == [name]


def test_fetch_unknown_project_lists_the_projects(client, project, tmp_path):
    with pytest.raises(LabelStudioError, match=r"project 'line': there is none at http.*; available: line-3"):
        fetch_annotations(client, "line", tmp_path / "inbox")


def test_fetch_project_without_annotations_is_refused(client, server, tmp_path):
    server.add_project("line-3", label_config(), [{"id": 1, "data": {"image": "/a.png"}, "annotations": []}])
    with pytest.raises(LabelStudioError, match=r"none of its tasks is annotated; label some in .*/projects/1"):
        fetch_annotations(client, "line-3", tmp_path / "inbox")
    assert not (tmp_path / "inbox").exists()


def test_fetch_images_in_s3_and_local_files(client, server, project, tmp_path, monkeypatch):
    class Bucket:
        def get(self, key: str, local: Path) -> None:
            assert key == "a b.png"
            local.write_bytes(contents[0])

    contents = list(server.files.values())
    monkeypatch.setattr(inbox, "open_store", lambda uri: {"s3://line/recent": Bucket()}[uri])
    project["tasks"][0]["data"]["image"] = "s3://line/recent/a b.png"
    project["tasks"][1]["data"]["image"] = "/data/local-files/?d=line%203/b.png"
    server.files["line 3/b.png"] = contents[1]
    project["tasks"][2]["data"]["image"] = server.url + project["tasks"][2]["data"]["image"]
    assert fetch_annotations(client, "line-3", tmp_path / "inbox").downloaded == 3


@pytest.mark.parametrize(
    ("address", "name", "message"),
    [
        ("https://elsewhere/a.png", "a.png", "only images of Label Studio itself and s3:// are fetched"),
        ("/data/upload/1/a.pdf", None, "which is of no format that is read"),
        ("", None, "which is of no format that is read"),
    ],
)
def test_fetch_images_of_other_places_are_refused(address, name, message, client, project, tmp_path):
    project["tasks"][0]["data"].update(image=address, name=name)
    with pytest.raises(LabelStudioError, match=f"task {project['tasks'][0]['id']}: .*{message}"):
        fetch_annotations(client, "line-3", tmp_path / "inbox")


def test_fetch_names_cannot_leave_the_folder(client, project, tmp_path):
    project["tasks"][0]["data"]["name"] = "../../a\\b:c.png"
    fetch_annotations(client, "line-3", tmp_path / "inbox")
    assert (tmp_path / "inbox" / f"{project['tasks'][0]['id']}--..-a-b-c.png").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"drawn", "inbox"}


def test_fetch_task_without_our_data_takes_the_name_of_its_address(client, project, tmp_path):
    for key in ("name", "sha256", "reason"):
        project["tasks"][0]["data"].pop(key)
    fetch_annotations(client, "line-3", tmp_path / "inbox")
    assert (tmp_path / "inbox" / f"{project['tasks'][0]['id']}-00000000-{project['tasks'][0]['id']}.png").is_file()
    (task, *_) = json.loads((tmp_path / "inbox" / LABELS_FILE).read_text())
    assert task["data"]["address"].startswith("/data/upload/1/")
