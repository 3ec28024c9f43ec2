"""The verbs of ``adjobs dataset`` in this process."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from adjobs.cli.main import main
from tests.helpers.drawing import draw_folder
from tests.helpers.versioned import draw

pytestmark = pytest.mark.usefixtures("isolated_home")


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(main, ["dataset", *map(str, args)])


@pytest.fixture
def created(tmp_path: Path) -> Path:
    """Address of a data set with one version, of 30 images."""
    source = draw_folder(tmp_path / "source", 20, 10, 32)
    assert run("create", tmp_path / "set", "--from", source).exit_code == 0
    return tmp_path / "set"


def test_create_prints_the_images_by_split(created, tmp_path):
    result = run("create", tmp_path / "second", "--from", tmp_path / "source", "--seed", 1)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == f"{tmp_path}/second: created, with version 1 of 30 images"
    assert result.stdout.splitlines()[-1].split() == ["test", "anomalous", "scratch", "4"]
    assert "exists already" in run("create", tmp_path / "second", "--from", tmp_path / "source", "--seed", 1).stdout


def test_create_empty_says_what_to_do(tmp_path):
    result = run("create", tmp_path / "set")
    assert result.stdout == f"{tmp_path}/set: created, with no version yet; add images with 'adjobs dataset add'\n"
    assert "no version yet" in run("show", tmp_path / "set").stdout
    assert "no version yet" in run("log", tmp_path / "set").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--protocol", "holdout"), "--protocol: got holdout without --from"),
        (("--normal-shares", "1", "1", "1"), "shares of normal images: got 1 1 1; give three numbers"),
    ],
)
def test_create_wrong_options_are_refused(arguments, message, tmp_path):
    result = run("create", tmp_path / "set", *arguments)
    assert (result.exit_code, message in result.stderr) == (2, True)
    assert not (tmp_path / "set").exists()


def test_add_prints_what_was_added_and_what_was_set_aside(created, tmp_path):
    inbox = draw(tmp_path / "inbox", "scratch/x.png scratch/y.png", seed=1)
    (inbox / "scratch" / "y.png").write_bytes(b"")
    result = run("add", created, inbox, "--message", "night shift")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0] == "version 2: 1 image added, 0 updated"
    assert lines[-2] == "set aside (1)"
    assert lines[-1].startswith("  scratch/y.png: unreadable: ")


def test_add_empty_inbox_is_no_error(created, tmp_path):
    (tmp_path / "inbox").mkdir()
    result = run("add", created, tmp_path / "inbox")
    assert (result.exit_code, result.stdout) == (0, "nothing to add; version 1 is the newest\n")


def test_add_dry_run_says_what_would_be_added(created, tmp_path):
    inbox = draw(tmp_path / "inbox", "scratch/x.png", seed=1)
    shutil.copy(tmp_path / "source" / "good" / "000.png", inbox / "copy.png")
    result = run("add", created, inbox, "--dry-run")
    assert result.stdout.splitlines()[0] == "1 image would be added, 0 updated; nothing was written, 1 duplicate skipped"
    assert json.loads(run("add", created, inbox, "--dry-run", "--json").stdout)["version"] is None


def test_add_json_has_everything(created, tmp_path):
    document = json.loads(run("add", created, draw(tmp_path / "inbox", "scratch/x.png", seed=1), "--json").stdout)
    assert (document["version"], document["added"], document["duplicates"], document["set_aside"]) == (2, 1, 0, [])
    assert document["latest"]["number"] == 2


def test_show_and_log_list_versions(created, tmp_path):
    run("add", created, draw(tmp_path / "inbox", "scratch/x.png", seed=1), "--message", "night shift")
    shown = run("show", created, "--version", 1).stdout
    assert "images       30: 30 added, 0 updated" in shown
    rows = [line.split() for line in run("log", created).stdout.splitlines()]
    assert [row[0] for row in rows] == ["version", "2", "1"]
    assert rows[1][-2:] == ["night", "shift"]
    versions = json.loads(run("log", created, "--json").stdout)["versions"]
    assert [version["number"] for version in versions] == [1, 2]
    assert json.loads(run("show", created, "--json").stdout)["version"] == versions[1]


@pytest.mark.parametrize("verb", ["show", "log"])
def test_show_folder_without_versions_is_refused(verb, folder_root):
    result = run(verb, folder_root)
    assert result.exit_code == 2
    assert "is not a data set with versions" in result.stderr


def test_data_verbs_read_a_version(created, tmp_path):
    run("add", created, draw(tmp_path / "inbox", "scratch/x.png", seed=1))
    runner = CliRunner()
    for version, images in ((1, 30), (2, 31)):
        result = runner.invoke(main, ["data", "show", str(created), "--version", str(version), "--json"])
        assert json.loads(result.stdout)["images"] == images
    assert runner.invoke(main, ["data", "check", str(created), "--version", "1"]).exit_code == 0
