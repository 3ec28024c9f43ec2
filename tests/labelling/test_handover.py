from __future__ import annotations

import json
from pathlib import Path

import pytest

from adjobs.errors import DataError, LabelStudioError, StorageError
from adjobs.labelling.handover import Destination, hand_over, prepare
from adjobs.labelling.images import ImageSource
from adjobs.labelling.suggest import Suggestion, SuggestResult
from adjobs.labelling.tasks import label_config
from tests.helpers.detectors import draw_image


def result_of(*sources: ImageSource) -> SuggestResult:
    items = [Suggestion(source, f"{i:064d}", (160, 96), 1.0, "normal", (), 0.9, 0.1, "near") for i, source in enumerate(sources)]
    return SuggestResult(tuple(items), "models:/line/3", 0.8, len(items), (), (), 0, ("dent",))


def addresses(path: Path) -> list[str]:
    return [task["data"]["image"] for task in json.loads(path.read_text())]


def test_hand_over_file_names_images_below_the_folder_above_them(tmp_path):
    sources = [ImageSource(draw_image(tmp_path / "line" / day, "a.png")) for day in ("monday", "tuesday")]
    handover = hand_over(result_of(*sources), tmp_path / "tasks.json")
    assert addresses(tmp_path / "tasks.json") == [f"/data/local-files/?d=line/{day}/a.png" for day in ("monday", "tuesday")]
    assert (handover.image_root, handover.imported) == (tmp_path, None)
    assert handover.config.read_text() == label_config(("dent",))


def test_hand_over_images_in_s3_keep_their_addresses_and_need_no_folder(client, server, tmp_path):
    source = ImageSource(tmp_path / "cache" / "a.png", "s3://line/a.png")
    handover = hand_over(result_of(source), tmp_path / "tasks.json", None, Destination(client, "line-3"))
    assert addresses(tmp_path / "tasks.json") == ["s3://line/a.png"]
    assert handover.image_root is None
    assert [task["data"]["image"] for task in server.projects[1]["tasks"]] == ["s3://line/a.png"]


def test_hand_over_to_a_project_uploads_images(client, server, tmp_path):
    source = ImageSource(draw_image(tmp_path / "line", "a.png"))
    handover = hand_over(result_of(source), tmp_path / "tasks.json", None, Destination(client, "line-3"))
    assert handover.imported is not None
    assert handover.imported.added == 1
    assert list(server.files.values()) == [source.path.read_bytes()]


def test_hand_over_with_an_image_root_uploads_nothing_and_lets_the_project_show_the_folder(client, server, tmp_path):
    source = ImageSource(draw_image(tmp_path / "line", "a.png"))
    hand_over(result_of(source), tmp_path / "tasks.json", tmp_path, Destination(client, "line-3"))
    assert (server.files, server.projects[1]["folders"]) == ({}, [str(tmp_path / "line")])
    assert server.projects[1]["tasks"][0]["data"]["image"] == "/data/local-files/?d=line/a.png"


def test_hand_over_images_directly_in_the_image_root_are_refused(client, tmp_path):
    source = ImageSource(draw_image(tmp_path, "a.png"))
    with pytest.raises(DataError, match="shows no files that lie in it directly"):
        hand_over(result_of(source), tmp_path / "tasks.json", tmp_path, Destination(client, "line-3"))


def test_hand_over_tiff_is_counted_in_files_and_refused_as_an_upload(client, server, tmp_path):
    source = ImageSource(draw_image(tmp_path / "line", "a.tif"))
    assert hand_over(result_of(source), tmp_path / "tasks.json").n_unshown == 1
    with pytest.raises(DataError, match=r"a\.tif: browsers do not show .*suggest copies in PNG, or give --image-root"):
        hand_over(result_of(source), tmp_path / "tasks.json", None, Destination(client, "line-3"))
    assert server.projects == {}


def test_hand_over_to_a_server_that_fails_keeps_the_files(client, server, tmp_path):
    server.failures = {"POST /api/projects/": [400]}
    source = ImageSource(tmp_path / "a.png", "s3://line/a.png")
    with pytest.raises(LabelStudioError, match="failed on request"):
        hand_over(result_of(source), tmp_path / "tasks.json", None, Destination(client, "line-3"))
    assert len(addresses(tmp_path / "tasks.json")) == 1


def test_prepare_refuses_before_images_are_scored(client, server, tmp_path):
    (tmp_path / "notes.json").write_text("{}")
    with pytest.raises(StorageError, match="exists and is not a file of tasks"):
        prepare(["line"], tmp_path / "notes.json", None, None)
    with pytest.raises(DataError, match="is not in the image root"):
        prepare([str(tmp_path / "line")], tmp_path / "tasks.json", tmp_path / "other", None)
    server.add_project("line-3", "<View><Text/></View>")
    with pytest.raises(LabelStudioError, match="has another labelling configuration"):
        prepare(["line"], tmp_path / "tasks.json", None, Destination(client, "line-3"))
    assert prepare(["s3://a"], tmp_path / "tasks.json", tmp_path, Destination(client, "line-4")) == tmp_path / "tasks.json"
