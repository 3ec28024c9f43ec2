from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from adjobs.cli.main import main
from tests.drawing import draw_folder, save


@pytest.fixture(autouse=True)
def _own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("ADJOBS_HOME", str(tmp_path / "home"))
    # Commands complete the environment; what they add must not reach the next test.
    monkeypatch.setattr("os.environ", os.environ.copy())


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(main, ["data", *map(str, args)])


def test_show(folder_root):
    result = run("show", folder_root)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "format       folder"
    assert lines[2:6] == [
        "images       30, 10 with a mask",
        "sizes        64 x 64 to 64 x 64, most often 64 x 64 (30 images)",
        "protocol     holdout, seed 0",
        "",
    ]
    assert [line.split() for line in lines[6:]] == [
        ["part", "label", "defect", "images"],
        ["train", "normal", "-", "12"],
        ["train", "anomalous", "scratch", "2"],
        ["val", "normal", "-", "4"],
        ["val", "anomalous", "scratch", "4"],
        ["test", "normal", "-", "4"],
        ["test", "anomalous", "scratch", "4"],
    ]


def test_show_json_of_a_published_split(mvtec_root):
    result = run("show", mvtec_root, "--json", "--seed", "3")
    shown = json.loads(result.stdout)
    assert (shown["format"], shown["protocol"], shown["seed"], shown["images"], shown["masks"]) == (
        "mvtec",
        "official",
        3,
        30,
        10,
    )
    assert len(shown["fingerprint"]) == 64
    assert shown["sizes"] == {"min": [64, 64], "max": [64, 64], "common": [64, 64], "common_count": 30, "unreadable": 0}
    assert {"part": "test", "label": "anomalous", "defect": "scratch", "count": 10} in shown["parts"]


def test_show_counts_divided_groups(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(60):
        place = tmp_path / ("MT_Free" if i % 2 else "MT_Break") / "Imgs"
        save(place / f"exp{i % 6}_num_{i // 6 * 1000 + i % 6}.jpg", rng.integers(0, 255, (9 + i, 20, 3), dtype=np.uint8))
    grouped = run("show", tmp_path)
    assert "groups       10\n" in grouped.stdout
    assert "sizes        20 x 9 to 20 x 68, most often" in grouped.stdout
    assert re.search(r"groups       10, \d+ of them divided between parts\n", run("show", tmp_path, "--protocol", "liac").stdout)


def test_show_what_cannot_be_divided(tmp_path):
    draw_folder(tmp_path, 12, 0)
    (tmp_path / "good" / "000.png").write_bytes(b"no image")
    result = run("show", tmp_path)
    assert result.exit_code == 0
    assert "no split     protocol holdout would give train 7 normal and 0 anomalous" in result.stdout
    assert "unreadable   1 images; see 'adjobs data check'" in result.stdout
    assert result.stdout.splitlines()[-1].split() == ["-", "normal", "-", "12"]
    asked = run("show", tmp_path, "--protocol", "holdout")
    assert (asked.exit_code, asked.stdout) == (2, "")
    assert asked.stderr.startswith("error: protocol holdout would give")


def test_check_finds_nothing(folder_root):
    result = run("check", folder_root)
    assert (result.exit_code, result.stdout) == (0, "no problems in 30 images\n")
    assert json.loads(run("check", folder_root, "--json").stdout)["problems"] == []


def test_check_lists_every_problem(tmp_path):
    root = draw_folder(tmp_path, 10, 1)
    (root / "good" / "000.png").write_bytes(b"no image")
    save(root / "masks" / "scratch" / "000.png", np.zeros((64, 64), dtype=bool))
    result = run("check", root)
    assert result.exit_code == 1
    assert [line.rpartition(";")[0].split(":")[:2] for line in result.stdout.splitlines()] == [
        ["bad/scratch/000.png", " mask empty"],
        ["good/000.png", " unreadable"],
        ["(data set)", " few normals"],
        ["(data set)", " split"],
    ]
    as_json = run("check", root, "--json")
    assert as_json.exit_code == 1
    assert [problem["kind"] for problem in json.loads(as_json.stdout)["problems"]] == [
        "mask empty",
        "unreadable",
        "few normals",
        "split",
    ]


@pytest.mark.parametrize("verb", ["show", "check"])
def test_errors_are_one_line(verb, folder_root):
    for args, message in [
        (["nowhere"], "error: nowhere: no such folder;"),
        (
            [folder_root, "--protocol", "holdut"],
            "error: holdut: no such protocol; have holdout, liac, official; did you mean holdout?",
        ),
        ([folder_root, "--format", "mtf"], "error: mtf: no such data format; have auto,"),
    ]:
        result = run(verb, *args)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith(message)
        assert result.stderr.count("\n") == 1
    assert json.loads(run(verb, "nowhere", "--json").stdout)["error"].startswith("nowhere: no such folder")


def test_as_a_program(folder_root):
    command = [sys.executable, "-c", "from adjobs.cli.main import main; main()", "data", "check", str(folder_root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "no problems in 30 images\n", "")
