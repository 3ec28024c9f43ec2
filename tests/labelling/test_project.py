from __future__ import annotations

from pathlib import Path

import pytest

from adjobs.errors import LabelStudioError, LabelStudioUnavailableError
from adjobs.labelling import project as project_module
from adjobs.labelling.project import NewTask, check_project, find_project, import_tasks
from adjobs.labelling.tasks import label_config
from tests.helpers.label_studio import LabelStudio

CONFIG = label_config(("scratch",))
IMPORT, CREATE = "POST /api/projects/1/import", "POST /api/projects/"


def make_tasks(count: int, first: int = 0) -> list[NewTask]:
    return [NewTask({"data": {"image": f"s3://line/{i}.png", "sha256": f"{i:064d}"}}) for i in range(first, first + count)]


def images(server: LabelStudio, project: int = 1) -> list[str]:
    return [task["data"]["image"] for task in server.projects[project]["tasks"]]


def test_import_makes_the_project_and_adds_tasks_in_order(client, server):
    result = import_tasks(client, "line-3", CONFIG, make_tasks(3))
    assert (result.is_new, result.added, result.present) == (True, 3, 0)
    assert result.address == f"{server.url}/projects/1"
    assert images(server) == [f"s3://line/{i}.png" for i in range(3)]
    assert server.projects[1]["label_config"] == CONFIG


def test_import_adds_no_image_twice(client, server, monkeypatch):
    monkeypatch.setattr(project_module, "BATCH", 2)
    import_tasks(client, "line-3", CONFIG, make_tasks(3))
    result = import_tasks(client, "line-3", CONFIG, make_tasks(5, first=1))
    assert (result.is_new, result.added, result.present) == (False, 3, 2)
    same_content = NewTask({"data": {"image": "s3://copy/1.png", "sha256": f"{1:064d}"}})
    same_address = NewTask({"data": {"image": "s3://line/2.png", "sha256": "f" * 64}})
    assert import_tasks(client, "line-3", CONFIG, [same_content, same_address]).added == 0
    assert len(images(server)) == 6


def test_import_after_a_lost_answer_adds_no_image_twice(client, server, monkeypatch):
    monkeypatch.setattr(project_module, "BATCH", 2)
    server.failures = {CREATE: ["lost"], IMPORT: ["lost", 503, 500]}
    result = import_tasks(client, "line-3", CONFIG, make_tasks(5))
    assert (len(server.projects), images(server)) == (1, [f"s3://line/{i}.png" for i in range(5)])
    assert result.added == 5


def test_import_that_fails_can_be_run_again(client, server, monkeypatch):
    monkeypatch.setattr(project_module, "BATCH", 2)
    server.add_project("line-3", CONFIG)
    import_tasks(client, "line-3", CONFIG, make_tasks(2))
    server.failures = {IMPORT: [503] * 3}
    with pytest.raises(LabelStudioUnavailableError, match="answered 503"):
        import_tasks(client, "line-3", CONFIG, make_tasks(5))
    assert import_tasks(client, "line-3", CONFIG, make_tasks(5)).added == 3
    assert len(images(server)) == 5


def test_import_uploads_images_that_are_missing(client, server, tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(2)]
    for path in paths:
        path.write_bytes(path.name.encode())
    new = [NewTask({"data": {"image": "/x", "sha256": f"{i:064d}"}}, path) for i, path in enumerate(paths)]
    import_tasks(client, "line-3", CONFIG, new[:1])
    assert import_tasks(client, "line-3", CONFIG, new).added == 1
    assert images(server) == ["/data/upload/1/00000001-0.png", "/data/upload/1/00000002-1.png"]
    assert list(server.files.values()) == [b"0.png", b"1.png"]


def test_import_into_a_project_that_was_not_set_up_sets_the_configuration(client, server):
    server.add_project("line-3", "<View></View>")
    assert not import_tasks(client, "line-3", CONFIG, make_tasks(1)).is_new
    assert server.projects[1]["label_config"] == CONFIG


def test_import_keeps_a_configuration_with_more_labels(client, server):
    config = label_config(("scratch", "dent", "stain"))
    server.add_project("line-3", config)
    import_tasks(client, "line-3", CONFIG, make_tasks(1))
    assert server.projects[1]["label_config"] == config


def test_import_into_a_project_with_another_configuration_is_refused(client, server):
    server.add_project("line-3", '<View><Text name="text" value="$text"/></View>')
    with pytest.raises(LabelStudioError, match=r"project 'line-3': has another labelling configuration, without <Image .*choose"):
        import_tasks(client, "line-3", CONFIG, make_tasks(1))
    assert images(server) == []


def test_find_project_two_of_one_title_is_refused(client, server):
    for _ in range(2):
        server.add_project("line-3", CONFIG)
    assert find_project(client, "line") is None
    with pytest.raises(LabelStudioError, match=r"2 projects have this title \(1, 2\); rename the others"):
        check_project(client, "line-3")


def test_import_local_files_adds_the_folder_once(client, server):
    folder = Path("/srv/images/line-3")
    for _ in range(2):
        import_tasks(client, "line-3", CONFIG, make_tasks(1), folder)
    import_tasks(client, "line-3", CONFIG, make_tasks(1), folder / "monday")
    assert server.projects[1]["folders"] == ["/srv/images/line-3"]


def test_import_local_files_that_the_server_refuses_says_what_to_set(client, server):
    with pytest.raises(LabelStudioError, match=r"must be a subdirectory of LOCAL_FILES.*LOCAL_FILES_SERVING_ENABLED=true"):
        import_tasks(client, "line-3", CONFIG, make_tasks(1), Path("/refused"))
    assert images(server) == []
