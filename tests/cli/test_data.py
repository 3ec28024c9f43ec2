from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from adjobs import methods
from adjobs.data.splits.protocols import PROTOCOLS
from tests.helpers.data_verbs import run
from tests.helpers.datasets import edit_json
from tests.helpers.drawing import draw_coco, draw_folder, save, texture

pytestmark = pytest.mark.usefixtures("isolated_home")


def test_show_folder_prints_a_summary(folder_root):
    result = run("show", folder_root)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "format       folder"
    assert lines[2:6] == [
        "images       30, 10 with a mask",
        "sizes        64 x 64 to 64 x 64, most common 64 x 64 (30 images)",
        "protocol     holdout, seed 0",
        "",
    ]
    assert [line.split() for line in lines[6:]] == [
        ["split", "label", "defect", "images"],
        ["train", "normal", "-", "12"],
        ["train", "anomalous", "scratch", "2"],
        ["val", "normal", "-", "4"],
        ["val", "anomalous", "scratch", "4"],
        ["test", "normal", "-", "4"],
        ["test", "anomalous", "scratch", "4"],
    ]


def test_show_published_splits_are_in_json(mvtec_root):
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
    assert {"split": "test", "label": "anomalous", "defect": "scratch", "count": 10} in shown["splits"]
    assert (shown["blocks"], shown["boxes"], shown["unlabelled"]) == (0, 0, 0)


def test_show_says_what_places_are_best_compared_with(tmp_path):
    root = draw_folder(tmp_path / "d", 40, 4)
    result = json.loads(run("show", root, "--json").stdout)
    places = result["places"]
    assert places["images"] == 24  # of the training split
    assert places["best"] == "any place"  # stripes with a phase of their own are the same everywhere
    assert places["by_neighbour"] > places["by_place"] > 0
    assert f"\nplaces       {places['description']}\n" in run("show", root).stdout
    few = draw_folder(tmp_path / "few", 20, 4)  # of which 12 train
    assert json.loads(run("show", few, "--json").stdout)["places"] is None
    assert "\nplaces" not in run("show", few).stdout


def test_show_an_unreadable_normal_image_leaves_places_out(tmp_path):
    root = draw_folder(tmp_path / "d", 40, 4)
    for path in (root / "good").iterdir():
        path.write_bytes(path.read_bytes()[:200])  # the header is whole
    result = run("show", root, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["places"] is None


def test_show_several_label_kinds_are_counted(tmp_path):
    lines = [{"image": f"{i}.png", "label": "normal"} for i in range(4)]
    lines += [{"image": "4.png", "label": "anomalous", "boxes": [[1, 2, 3, 4]]}, {"image": "5.png", "label": "unlabelled"}]
    lines += [{"image": "6.png", "label": "anomalous", "blocks": "7.png"}]
    for i in range(8):
        save(tmp_path / f"{i}.png", np.zeros((40, 40), np.uint8))
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)))
    result = run("show", tmp_path)
    assert "images       7, 0 with a mask, 1 with blocks, 1 with boxes, 1 unlabelled\n" in result.stdout


def test_show_classes_that_mean_normal_and_problems_are_counted(tmp_path):
    root = draw_coco(tmp_path)
    edit_json(root / "annotations" / "instances_default.json", lambda coco: coco["categories"][1].update(name="i.O."))
    (root / "images" / "extra.gif").write_bytes(b"GIF89a")
    shown = run("show", root).stdout
    assert "\nnormal       annotations of class i.O. (2)\n" in shown
    assert "\nproblems     normal class (warning, 1), other formats (warning, 1); see 'adjobs data check'\n" in shown
    assert "(1 .gif)" in shown
    assert json.loads(run("show", root, "--json").stdout)["normal_classes"] == {"i.O.": 2}
    without = json.loads(run("show", root, "--json", "--normal-class", "perfect").stdout)
    assert without["normal_classes"] == {}
    assert "i.O." in {count["defect"] for count in without["splits"]}


def test_show_groups_in_several_splits_are_counted(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(60):
        folder = tmp_path / ("MT_Free" if i % 2 else "MT_Break") / "Imgs"
        save(folder / f"exp{i % 6}_num_{i // 6 * 1000 + i % 6}.jpg", rng.integers(0, 255, (9 + i, 20, 3), dtype=np.uint8))
    grouped = run("show", tmp_path)
    assert "groups       10\n" in grouped.stdout
    assert "sizes        20 x 9 to 20 x 68, most common" in grouped.stdout
    assert re.search(r"groups       10, \d+ of them in several splits\n", run("show", tmp_path, "--protocol", "liac").stdout)


def test_show_impossible_split_is_explained(tmp_path):
    draw_folder(tmp_path, 12, 1)
    (tmp_path / "good" / "000.png").write_bytes(b"not an image")
    result = run("show", tmp_path)
    assert result.exit_code == 0
    assert (
        "no split     protocol holdout would give train 7 normal and 0 anomalous, val 3 normal and 1 anomalous" in result.stdout
    )
    assert "unreadable   1 images; see 'adjobs data check'" in result.stdout
    assert result.stdout.splitlines()[-2].split() == ["-", "normal", "-", "12"]
    requested = run("show", tmp_path, "--protocol", "holdout")
    assert (requested.exit_code, requested.stdout) == (2, "")
    assert requested.stderr.startswith("error: protocol holdout would give")


def test_show_files_that_cannot_be_read_are_listed_beside_the_counts(folder_root):
    os.mkfifo(folder_root / "good" / "pipe.png")
    (folder_root / "bad" / "scratch" / "lost.png").symlink_to("nowhere.png")
    (folder_root / "masks" / "scratch" / "000.png").unlink()
    os.mkfifo(folder_root / "masks" / "scratch" / "000.png")
    shown = run("show", folder_root)
    assert shown.exit_code == 0, shown.output
    lines = shown.stdout.splitlines()
    assert lines[1] == "fingerprint  none, since files cannot be read"
    assert lines[2] == "images       32, 10 with a mask"
    assert "problems     unreadable (error, 3); see 'adjobs data check'" in lines
    (pipe,) = [line.strip() for line in lines if "good/pipe.png" in line]
    assert pipe.startswith("good/pipe.png: ")
    assert "cannot be read (it is a pipe, not a file); restore the file or remove it" in pipe
    result = json.loads(run("show", folder_root, "--json").stdout)
    assert result["fingerprint"] is None
    assert [item["sample"] for item in result["unreadable"]] == ["bad/scratch/000.png", "bad/scratch/lost.png", "good/pipe.png"]
    checked = json.loads(run("check", folder_root, "--json").stdout)
    assert {item["sample"] for item in checked["problems"] if "unreadable" in item["kind"]} == {
        item["sample"] for item in result["unreadable"]
    }


def draw_train_and_val(layout: str, root: Path) -> Path:
    """A data set in COCO or YOLO whose export has only train and val; every fourth image has a box."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 32), ("val", 16)):
        folder = root / split if layout == "coco" else root / "images" / split
        names = [f"{split}{i:02}.png" for i in range(count)]
        for name in names:
            save(folder / name, texture(32, rng))
        if layout == "coco":
            images = [{"id": i, "file_name": name, "width": 32, "height": 32} for i, name in enumerate(names)]
            boxes = [{"id": i, "image_id": i, "category_id": 1, "bbox": [4, 4, 8, 8], "area": 64} for i in range(0, count, 4)]
            document = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "scratch"}]}
            (folder / "_annotations.coco.json").write_text(json.dumps(document))
            continue
        labels = root / "labels" / split
        labels.mkdir(parents=True)
        for name in names[::4]:
            (labels / name).with_suffix(".txt").write_text("0 0.5 0.5 0.25 0.25\n")
    return root


@pytest.mark.parametrize("layout", ["coco", "yolo"])
def test_show_check_split_published_train_and_val_alone_are_split_by_holdout(layout, tmp_path):
    root = draw_train_and_val(layout, tmp_path / "set")
    shown = json.loads(run("show", root, "--json").stdout)
    assert (shown["format"], shown["protocol"], shown["split_error"]) == (layout, "holdout", "")
    checked = run("check", root)
    assert checked.exit_code == 0, checked.stdout
    assert run("split", root, "--out", tmp_path / "split.json").exit_code == 0
    assert json.loads((tmp_path / "split.json").read_text())["protocol"] == "holdout"
    refused = run("split", root, "--protocol", "official", "--out", tmp_path / "other.json")
    assert (refused.exit_code, (tmp_path / "other.json").exists()) == (2, False)


def test_contact_sheet_is_written_with_what_was_drawn(folder_root, tmp_path):
    out = tmp_path / "sheets" / "folder.html"
    result = run("look", folder_root, "--out", out, "--per-class", "3")
    assert result.exit_code == 0, result.output
    assert re.fullmatch(r"6 of 30 images of 2 classes in .*folder.html \(0.\d MB\), 0 with problems\n", result.stdout)
    (folder_root / "bad" / "scratch" / "000.png").write_bytes(b"")
    shown = json.loads(run("look", folder_root, "--out", out, "--per-class", "20", "--json").stdout)
    assert [(group["title"], len(group["samples"])) for group in shown["groups"]] == [("normal", 20), ("anomalous: scratch", 10)]
    assert [problem["kind"] for problem in shown["samples"]["bad/scratch/000.png"]["problems"]] == ["unreadable"]
    assert shown["bytes"] == out.stat().st_size
    assert run("look", folder_root, "--out", tmp_path / "folder.png").exit_code == 0


def test_contact_sheet_errors_are_one_line(folder_root, tmp_path):
    (tmp_path / "mine.html").write_text("my page")
    for args, message in [
        (["--out", tmp_path / "mine.html"], "mine.html: exists and is not a contact sheet; choose another path, or remove it"),
        (
            ["--out", tmp_path / "sheet.gif"],
            "sheet.gif: a contact sheet is a .html or a .png file; choose a name",
        ),
        (["--value-range", "5", "5"], "--value-range: got 5 5"),
        (["--format", "coco"], "layout is not coco"),
        (["--out", folder_root / "sheet.png"], "sheet.png: is in the data set, which would take it for an image; choose"),
    ]:
        result = run("look", folder_root, *args)
        assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
        assert message in result.stderr
    assert (tmp_path / "mine.html").read_text() == "my page"


def test_help_lists_available_names():
    for verb, words in [("check", [*PROTOCOLS, *methods.names(), "manifest"]), ("show", PROTOCOLS), ("split", PROTOCOLS)]:
        text = run(verb, "--help").stdout
        assert all(word in text for word in words)
        assert "{}" not in text
    assert all(verb in run("--help").stdout for verb in ("show", "look", "check", "split", "import"))


# Splits


def test_split_written_file_is_used_by_other_verbs(folder_root, tmp_path):
    out = tmp_path / "split.json"
    result = run("split", folder_root, "--protocol", "holdout", "--seed", "5", "--max-train-anomalies", "1", "--out", out)
    assert result.exit_code == 0
    assert result.stdout.startswith(f"protocol holdout, seed 5, in {out}\n\nsplit ")
    stored = json.loads(out.read_text())
    assert (stored["protocol"], stored["seed"]) == ("holdout", 5)
    assert sum(name.startswith("bad/") for name in stored["train"]) == 1
    from_file = json.loads(run("show", folder_root, "--split", out, "--json").stdout)
    from_options = json.loads(
        run("show", folder_root, "--protocol", "holdout", "--seed", "5", "--max-train-anomalies", "1", "--json").stdout
    )
    assert from_file == from_options
    assert run("check", folder_root, "--split", out).stdout.startswith("no problems in 30 images\n")
    repeated = json.loads(run("split", folder_root, "--seed", "5", "--max-train-anomalies", "1", "--out", out, "--json").stdout)
    assert repeated["splits"] == from_options["splits"]
    assert list(tmp_path.glob("split.json*")) == [out]


def test_check_split_file_with_invalid_sample_is_accepted(folder_root, tmp_path):
    out = tmp_path / "split.json"
    run("split", folder_root, "--out", out)
    (folder_root / "good" / "003.png").write_bytes(b"")
    report = json.loads(run("check", folder_root, "--split", out, "--json").stdout)
    assert [problem["kind"] for problem in report["problems"]] == ["unreadable"]


@pytest.mark.parametrize("verb", ["show", "check"])
def test_show_check_invalid_split_is_one_line(verb, folder_root, mvtec_root, tmp_path):
    other = tmp_path / "other.json"
    run("split", mvtec_root, "--out", other)
    for args, message in [
        (["--split", other, "--seed", "1"], "error: --split: the file defines the whole split;"),
        (["--split", tmp_path / "none.json"], "error: split "),
        (["--split", other], "error: split: train/good/"),
        (
            ["--protocol", "holdout", "--max-train-anomalies", "99"],
            "error: max_train_anomalies is 99; protocol holdout has 2 anomalous images for training;",
        ),
    ]:
        result = run(verb, folder_root, *args)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith(message)
        assert result.stderr.count("\n") == 1


# Import


def test_import_copy_equals_its_source(mvtec_root, tmp_path):
    destination = tmp_path / "new" / "copy"
    result = run("import", mvtec_root, destination)
    assert (result.exit_code, result.stdout) == (0, f"30 images in {destination}: 40 files copied, 0 already present\n")
    before, after = (json.loads(run("show", root, "--json").stdout) for root in (mvtec_root, destination))
    assert after["format"] == "manifest"
    assert {**after, "uri": 0, "format": 0} == {**before, "uri": 0, "format": 0}
    repeated = json.loads(run("import", mvtec_root, destination, "--json").stdout)
    assert (repeated["images"], repeated["copied"], repeated["already_present"], repeated["bytes"], repeated["problems"]) == (
        30,
        0,
        40,
        0,
        [],
    )


def test_import_unreadable_files_are_refused_or_skipped(folder_root, tmp_path):
    (folder_root / "good" / "003.png").write_bytes(b"")
    (folder_root / "masks" / "scratch" / "002.png").write_bytes(b"")
    save(folder_root / "good" / "004.png", np.zeros((64, 64), np.uint8))
    result = run("import", folder_root, tmp_path / "new")
    assert result.exit_code == 1
    assert [line.split(": ")[:2] for line in result.stdout.splitlines()] == [
        ["errors (2)"],
        ["  bad/scratch/002.png", "mask unreadable"],
        ["  good/003.png", "unreadable"],
        ["nothing was copied; fix these, or skip them with --skip-invalid"],
    ]
    assert not (tmp_path / "new").exists()
    result = run("import", folder_root, tmp_path / "new", "--skip-invalid")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[:2] == [
        f"28 images in {tmp_path / 'new'}: 37 files copied, 0 already present",
        "skipped (2)",
    ]
    assert json.loads(run("show", tmp_path / "new", "--json").stdout)["images"] == 28


def test_import_invalid_destination_is_one_line(folder_root, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    for destination, message in [
        (folder_root, f"error: {folder_root}: is inside the data set {folder_root};"),
        (tmp_path / "full", f"error: {tmp_path / 'full'}: is not empty (x);"),
        ("gs://bucket", "error: gs://bucket: not a storage URI"),
    ]:
        result = run("import", folder_root, destination)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith(message)
        assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("verb", ["show", "check"])
def test_show_check_errors_are_one_line(verb, folder_root):
    for args, message in [
        (["nowhere"], "error: nowhere: no such folder;"),
        (
            [folder_root, "--protocol", "holdut"],
            f"error: unknown protocol 'holdut'; available: {', '.join(PROTOCOLS)}; did you mean 'holdout'?",
        ),
        ([folder_root, "--format", "mtf"], "error: unknown data format 'mtf'; available: auto,"),
    ]:
        result = run(verb, *args)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith(message)
        assert result.stderr.count("\n") == 1
    assert json.loads(run(verb, "nowhere", "--json").stdout)["error"].startswith("nowhere: no such folder")
