from __future__ import annotations

import socket
from pathlib import Path

import pytest

from adjobs.errors import LabelStudioError, LabelStudioUnavailableError
from adjobs.labelling import client as client_module
from adjobs.labelling.client import LabelStudioClient, read_key
from adjobs.labelling.tasks import label_config
from tests.helpers.label_studio import ACCESS_TOKEN, ANSWERS, KEY, REFRESH_TOKEN


def write_key(folder: Path, text: str = KEY, mode: int = 0o600) -> Path:
    path = folder / "key.txt"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_read_key_of_a_private_file(tmp_path):
    assert read_key(write_key(tmp_path, f"{KEY}\n")) == KEY


@pytest.mark.parametrize(
    ("text", "mode", "message"),
    [
        (KEY, 0o640, "has mode 0640, others may read it; run: chmod 600"),
        ("", 0o600, "must hold one key"),
        ("two words", 0o600, "must hold one key"),
        ("key\r\nHost: x", 0o600, "must hold one key"),
    ],
)
def test_read_key_refuses_other_files(text, mode, message, tmp_path):
    with pytest.raises(LabelStudioError, match=message) as refused:
        read_key(write_key(tmp_path, text, mode))
    assert not text or text not in str(refused.value)


def test_read_key_without_a_file_is_refused(tmp_path):
    with pytest.raises(LabelStudioError, match="cannot be read"):
        read_key(tmp_path / "nothing")


@pytest.mark.parametrize("url", ["labels:8080", "ftp://labels", "http://user:secret@labels", "http://", ""])
def test_client_address_that_is_none_is_refused_without_its_password(url):
    with pytest.raises(LabelStudioError, match="must be http://host or https://host") as refused:
        LabelStudioClient(url, KEY)
    assert "secret" not in str(refused.value)


def test_client_wrong_key_is_one_line_without_the_key(server):
    with pytest.raises(LabelStudioError, match=r"refuses the key \(401: Invalid token\.\); copy the key") as refused:
        LabelStudioClient(server.url, "wrong-key").projects()
    assert "wrong-key" not in str(refused.value)


def test_client_personal_token_is_exchanged_and_exchanged_again_when_it_expires(server):
    server.add_project("line", label_config())
    client = LabelStudioClient(server.url, REFRESH_TOKEN)
    assert [project["title"] for project in client.projects()] == ["line"]
    server.accepts_access = False
    assert len(client.projects()) == 1
    assert server.requests.count("POST /api/token/refresh") == 2
    assert ACCESS_TOKEN not in str(vars(server)["requests"])


def test_client_wrong_personal_token_is_refused(server):
    with pytest.raises(LabelStudioError, match=r"refuses the key \(401: Token is invalid\)"):
        LabelStudioClient(server.url, "aa.bb.wrong").projects()


def test_client_server_that_is_down_is_one_line(monkeypatch):
    monkeypatch.setattr(client_module, "WAITS", (0,))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(LabelStudioUnavailableError, match=r"does not answer \(.*refused\); start it, or correct its address"):
        LabelStudioClient(url, KEY).projects()


def test_client_repeats_what_failed_for_a_moment(client, server):
    server.add_project("line", label_config())
    server.failures["GET /api/projects/"] = [503, "lost"]
    assert len(client.projects()) == 1
    server.failures["GET /api/projects/"] = [503, 503, 503]
    with pytest.raises(LabelStudioUnavailableError, match=r"answered 503 \(failed on request\)"):
        client.projects()


def test_client_address_that_is_no_label_studio_is_refused(server):
    with pytest.raises(LabelStudioError, match=r"answered 404 \(Not Found\); check its address"):
        LabelStudioClient(f"{server.url}/elsewhere", KEY).projects()
    server.files["/data/page"] = b"<html>"
    with pytest.raises(LabelStudioError, match="the answer is not JSON; give the address of a Label Studio"):
        LabelStudioClient(server.url, KEY)._json("GET", "/data/page")


def test_client_says_what_label_studio_says_of_a_mistake(client):
    with pytest.raises(LabelStudioError, match=r"refuses this: title: Ensure this field has at least 3 characters\.$"):
        client.create_project("x", label_config())


def test_client_reads_all_pages(client, server, monkeypatch):
    monkeypatch.setattr(client_module, "PAGE", 2)
    project = server.add_project("line", label_config(), [{"id": i, "data": {"image": f"/{i}.png"}} for i in range(5)])
    assert [data["image"] for data in client.task_data(project["id"])] == [f"/{i}.png" for i in range(5)]
    assert server.requests.count("GET /api/tasks") == 3


def test_client_upload_sends_the_file_and_returns_its_address(client, server, tmp_path):
    project = server.add_project("line", label_config())
    path = tmp_path / 'ä 1".jpe'
    path.write_bytes(bytes(range(256)))
    address = client.upload(project["id"], path)
    assert address == "/data/upload/1/00000001-%C3%A4_1%2522.jpg"
    assert client.download(address) == path.read_bytes()


def test_client_reads_what_the_real_server_answered(client, server):
    (project,) = ANSWERS["projects"]["results"]
    assert project.keys() >= {"id", "title", "label_config"}
    assert ANSWERS["tasks"]["total"] == len(ANSWERS["tasks"]["tasks"])
    assert all({"image", "sha256"} <= task["data"].keys() for task in ANSWERS["tasks"]["tasks"])
    assert ANSWERS["import"]["task_count"] == 1
    assert len(ANSWERS["upload"]["file_upload_ids"]) == 1
    assert ANSWERS["file_upload"]["file"].startswith("upload/")
    assert ANSWERS["upload_tif"][0] == 400
