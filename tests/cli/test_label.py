"""``adjobs label``: what it prints, refuses and leaves behind."""

from __future__ import annotations

import copy
import json
from hashlib import sha256

import numpy as np
import pytest
from click.testing import CliRunner, Result

from adjobs.cli.main import main
from adjobs.labelling import candidates as candidates_module
from adjobs.labelling.images import KnownImages
from adjobs.labelling.model import RankingModel
from adjobs.labelling.tasks import label_config
from tests.helpers.detectors import brightness_detector, draw_image
from tests.helpers.label_studio import ANSWERS, KEY, LabelStudio, label_studio


@pytest.fixture
def server():
    with label_studio() as running:
        yield running


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run a command of the group in an empty folder, with a detector whose threshold is 0.8."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ADJOBS_HOME", str(tmp_path / "home"))
    (tmp_path / "key.txt").write_text(KEY)
    (tmp_path / "key.txt").chmod(0o600)
    ranking = RankingModel("models:/line/3", brightness_detector(), np.empty(0), KnownImages(defects=("dent",)))
    monkeypatch.setattr(candidates_module, "load_model", lambda model, settings: ranking)
    return lambda *words: CliRunner().invoke(main, ["label", *words])


def connection(server: LabelStudio) -> list[str]:
    return ["--url", server.url, "--api-key-file", "key.txt", "--project", "line-3"]


def one_error(done: Result) -> str:
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_suggest_writes_tasks_and_says_how_to_start_label_studio(run, tmp_path):
    for i, brightness in enumerate((200, 205, 60)):
        draw_image(tmp_path / "recent", f"{i}.png", (10 * i, 10, 50 + 10 * i, 60), brightness=brightness)
    done = run("suggest", "models:/line@champion", "recent", "--count", "2")
    assert done.exit_code == 0, done.output
    assert "near the threshold: score 0.8" in done.stdout
    assert "2 of 3 images, threshold 0.8\ntasks in tasks.json, labelling configuration in tasks.xml\n" in done.stdout
    assert f"LOCAL_FILES_DOCUMENT_ROOT={tmp_path}\n" in done.stdout
    assert len(json.loads((tmp_path / "tasks.json").read_text())) == 2
    assert (tmp_path / "tasks.xml").read_text() == label_config(("dent",))


def test_suggest_json_has_everything_and_no_key(run, server, tmp_path):
    draw_image(tmp_path / "recent", "a.png", (10, 10, 50, 60))
    done = run("suggest", "m", "recent", *connection(server), "--json")
    document = json.loads(done.stdout)
    assert document["project"] == {
        "project": 1,
        "address": f"{server.url}/projects/1",
        "is_new": True,
        "added": 1,
        "present": 0,
    }
    assert document["suggestions"][0]["image"] == "recent/a.png"
    again = run("suggest", "m", "recent", *connection(server)).stdout
    assert again.endswith(f"0 tasks added to project {server.url}/projects/1, 1 were there already\n")
    assert KEY not in done.output + again + (tmp_path / "tasks.json").read_text()


def test_suggest_image_that_fails_has_exit_status_1(run, tmp_path):
    draw_image(tmp_path / "recent", "a.png")
    (tmp_path / "recent" / "b.png").write_bytes(b"")
    done = run("suggest", "m", "recent")
    assert done.exit_code == 1
    assert "not scored: recent/b.png" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "error: 'nowhere': no such file or folder"),
        (["recent", "--novelty", "-1"], r"error: novelty: got -1.0; must be a number of 0 or more"),
        (["recent", "--project", "line"], "error: --url, --api-key-file: missing; Label Studio takes"),
        (["recent", "--out", "key.txt"], "error: key.txt: exists and is not a file of tasks"),
        (["recent", "--image-root", "home"], "error: recent: is not in the image root home"),
    ],
)
def test_suggest_mistakes_are_one_line(words, message, run, tmp_path):
    draw_image(tmp_path / "recent", "a.png")
    (tmp_path / "home").mkdir()
    assert one_error(run("suggest", "m", *words)).startswith(message)
    assert not (tmp_path / "tasks.json").exists()


def test_suggest_wrong_key_is_refused_before_images_are_scored(run, server, tmp_path):
    draw_image(tmp_path / "recent", "a.png")
    (tmp_path / "key.txt").write_text("other")
    assert "refuses the key (401" in one_error(run("suggest", "m", "recent", *connection(server)))
    assert not (tmp_path / "tasks.json").exists()


def test_fetch_prints_what_to_do_next_and_data_check_reads_it(run, server, tmp_path):
    tasks = copy.deepcopy(ANSWERS["export"])
    for i, task in enumerate(tasks):
        task["data"]["image"] = f"/data/upload/1/{i}.png"
        content = draw_image(tmp_path / "drawn", f"{i}.png", (10 * i, 0, 50 + 20 * i, 60)).read_bytes()
        server.files[task["data"]["image"]], task["data"]["sha256"] = content, sha256(content).hexdigest()
    server.add_project("line-3", label_config(), tasks)
    done = run("fetch", *connection(server))
    assert done.stdout == (
        "3 annotated images in inbox, 3 of them new, 1 skipped ones left out\ncheck them: adjobs data check inbox\n"
    )
    checked = json.loads(CliRunner().invoke(main, ["data", "check", "inbox", "--json"]).stdout)
    assert checked["images"] == 3
    errors = {problem["kind"] for problem in checked["problems"] if problem["severity"] == "error"}
    assert errors == {"few normal images", "split"}  # an inbox is small


def test_fetch_mistakes_are_one_line(run, server):
    assert "project 'line-3': there is none at" in one_error(run("fetch", *connection(server)))
    assert "key file nothing: cannot be read" in one_error(
        run("fetch", "--url", server.url, "--api-key-file", "nothing", "--project", "x")
    )
