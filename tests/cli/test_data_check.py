from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from adjobs import methods
from adjobs.methods.contract import Selection, Spec
from tests.helpers.data_verbs import run
from tests.helpers.drawing import draw_folder, save

pytestmark = pytest.mark.usefixtures("isolated_home")


def test_check_valid_data_has_no_problems(folder_root):
    result = run("check", folder_root)
    assert result.exit_code == 0
    first, empty, *lines = result.stdout.splitlines()
    assert (first, empty) == ("no problems in 30 images", "")
    assert [line.split()[0] for line in lines] == ["pixels", "levels", "saturated"]
    assert lines[0] == "pixels     8 bits: 30 images"
    report = json.loads(run("check", folder_root, "--json").stdout)
    assert report.pop("pixels")["images"] == {"8 bits": 30}
    assert report == {"uri": str(folder_root), "images": 30, "errors": 0, "warnings": 0, "problems": []}


def test_check_images_of_12_bits_are_read_by_their_range(tmp_path):
    root = draw_folder(tmp_path, 12, 6)
    for path in (*root.glob("good/*"), *root.glob("bad/*/*")):
        save(path, np.asarray(Image.open(path).convert("L")).astype(np.uint16) * 16)
    lines = run("check", root).stdout.splitlines()
    assert lines[0] == "no problems in 18 images"
    assert lines[2].startswith(
        "pixels     12 of 16 bits: 18 images; black is 0, white 4095 (12 bits hold all values; if the camera"
    )
    dark = run("check", root, "--bit-depth", 16)
    assert dark.exit_code == 0
    assert "(data set): few levels: the median image uses 5 of 256 levels (white is 65535; set data.bit_depth or" in dark.stdout
    in_range = json.loads(run("check", root, "--value-range", -100, 4500.5, "--json").stdout)
    assert (in_range["pixels"]["black"], in_range["pixels"]["white"]) == (-100, 4500.5)
    for options in (["--value-range", 5, 5], ["--value-range", 0, 5, "--bit-depth", 12]):
        wrong = run("check", root, *options)
        assert (wrong.exit_code, wrong.stdout, wrong.stderr.count("\n")) == (2, "", 1)
        assert wrong.stderr.startswith("error: --value-range: got ")


def test_check_several_problems_are_all_listed(tmp_path):
    root = draw_folder(tmp_path, 10, 1)
    (root / "good" / "000.png").write_bytes(b"not an image")
    save(root / "good" / "001.png", np.zeros((64, 64, 3), np.uint8))
    save(root / "masks" / "scratch" / "000.png", np.zeros((64, 64), dtype=bool))
    result = run("check", root)
    assert result.exit_code == 1
    assert [line.split(": ")[:2] for line in result.stdout.splitlines()[:-4]] == [
        ["errors (3)"],
        ["  bad/scratch/000.png", "mask empty"],
        ["  good/000.png", "unreadable"],
        ["  (data set)", "few normal images"],
        ["warnings (2)"],
        ["  good/001.png", "one colour"],
        ["  (data set)", "no anomalous images in test"],
    ]
    as_json = run("check", root, "--json")
    assert as_json.exit_code == 1
    report = json.loads(as_json.stdout)
    assert (report["errors"], report["warnings"]) == (3, 2)
    assert [(problem["kind"], problem["severity"]) for problem in report["problems"]] == [
        ("mask empty", "error"),
        ("unreadable", "error"),
        ("few normal images", "error"),
        ("one colour", "warning"),
        ("no anomalous images in test", "warning"),
    ]
    assert set(report["problems"][0]) == {"sample", "kind", "message", "severity"}


@pytest.mark.slow
def test_check_only_warnings_exit_with_0(tmp_path):
    root = draw_folder(tmp_path / "set", 24, 10, size=160)
    split = tmp_path / "split.json"
    assert run("split", root, "--out", split).exit_code == 0
    assignment = json.loads(split.read_text())
    for i in range(5):
        name = f"good/copy {i}.jpg"
        Image.open(root / assignment["val"][-1 - i]).save(root / name, quality=95)
        assignment["test"].append(name)
    split.write_text(json.dumps(assignment))
    result = run("check", root, "--split", split)
    assert (result.exit_code, result.stdout.splitlines()[0]) == (0, "warnings (10)")
    report = json.loads(run("check", root, "--split", split, "--json").stdout)
    assert (report["errors"], report["warnings"]) == (0, 10)
    assert {problem["sample"] for problem in report["problems"]} == {*assignment["test"][-5:], *assignment["val"][-5:]}
    assert {(problem["kind"], problem["severity"]) for problem in report["problems"]} == {("near duplicate", "warning")}


def test_check_many_problems_of_a_kind_are_abbreviated(tmp_path, monkeypatch):
    monkeypatch.setattr("adjobs.cli.data.text.MAX_LINES", 20)
    root = draw_folder(tmp_path, 25, 10)
    for i in range(22):
        (root / "good" / f"{i:03}.png").write_bytes(b"")
    lines = run("check", root).stdout.splitlines()
    assert lines[0] == "errors (24)"
    assert [line for line in lines if ": unreadable:" in line] == lines[1:21]
    assert lines[21:] == ["  … and 2 more of kind unreadable; --json lists all", *lines[22:]]
    assert len(json.loads(run("check", root, "--json").stdout)["problems"]) == 24


@pytest.mark.parametrize(
    ("supervision", "threshold", "kinds"),
    [
        (("none", "masks"), ("max_fpr", 0.01), []),
        (("none",), ("max_f1", None), ["few anomalous images in val"]),
        (("masks",), ("max_fpr", 0.01), ["few anomalous images in train"]),
        (("image labels",), ("defect_ratio", None), ["few anomalous images in train", "few anomalous images in val"]),
        (("image labels",), ("defect_ratio", 0.1), ["few anomalous images in train"]),
    ],
)
def test_check_method_option_checks_its_labels(mvtec_root, monkeypatch, supervision, threshold, kinds):
    spec = Spec("T", "P", supervision, True, Selection("last", "image_auroc"), threshold)
    monkeypatch.setattr(methods, "spec", lambda name: spec)
    result = run("check", mvtec_root, "--method", "any", "--json")
    assert [problem["kind"] for problem in json.loads(result.stdout)["problems"]] == kinds
    assert result.exit_code == bool(kinds)


def test_check_unknown_method_is_refused_before_reading(folder_root):
    result = run("check", folder_root, "--method", "cod")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: unknown method 'cod'; available: ")


def test_check_as_a_program(folder_root):
    command = [sys.executable, "-c", "from adjobs.cli.main import main; main()", "data", "check", str(folder_root)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (process.returncode, process.stdout.splitlines()[0], process.stderr) == (0, "no problems in 30 images", "")


def test_check_every_fault_of_the_layout_is_listed_with_the_problems_of_the_images(tmp_path):
    root = draw_folder(tmp_path, 14, 6)
    save(root / "masks" / "scratch" / "099.png", np.ones((64, 64), dtype=bool))
    save(root / "scratches" / "x.png", np.zeros((64, 64, 3), np.uint8))
    (root / "good" / "000.png").write_bytes(b"not an image")
    result = run("check", root)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0] == "errors (3)"
    assert [line.split(": ")[:2] for line in lines[1:4]] == [
        ["  good/000.png", "unreadable"],
        ["  masks/scratch/099.png", "layout"],
        ["  scratches/x.png", "layout"],
    ]
    refused = run("show", root)
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert "scratches/x.png: does not fit the layout" in refused.stderr
    assert refused.stderr.endswith("; 1 other fault of the layout; 'adjobs data check' lists all\n")
