"""``adjobs predict``: exit status, lines and what is left out."""

from __future__ import annotations

import json
import math

import pytest
from click.testing import CliRunner, Result

from adjobs.cli.main import main
from adjobs.cli.predict import _Display
from adjobs.inference.results import LINES_FILE, DetectorIdentity
from tests.helpers.detectors import NotFinite, brightness_detector, draw_image


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run the verb with a detector of its own in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run_predict(*words: str, engine: str = "auto", digest: str = "1", **options) -> Result:
        def load(model, settings, chosen):
            assert (model, chosen) == ("any", engine)
            detector = brightness_detector(**options)
            return detector, DetectorIdentity(digest, detector.threshold, model)

        monkeypatch.setattr("adjobs.jobs.predict.load_with_identity", load)
        return CliRunner().invoke(main, ["predict", "--model", "any", *words])

    return run_predict


def test_predict_score_that_is_not_finite_has_exit_status_1_and_no_decision(run, tmp_path):
    draw_image(tmp_path / "images", "white.png", (0, 0, 160, 96))
    draw_image(tmp_path / "images", "dark.png")
    done = run("images", "--json", method=NotFinite(math.nan))
    assert done.exit_code == 1
    result = json.loads(done.stdout)
    assert result["failed"] == 1
    assert [line.get("decision") for line in result["predictions"]] == ["normal", None]
    assert "NaN" not in (tmp_path / "predictions" / LINES_FILE).read_text().replace("is NaN or", "")
    text = run("images", method=NotFinite(math.nan)).stdout
    assert "not predicted: images/white.png: the score or the anomaly map is NaN" in text


def test_predict_twice_in_the_same_folder_has_the_same_images(run, tmp_path):
    draw_image(tmp_path, "a.png")
    results = [json.loads(run(".", "--json").stdout) for _ in range(2)]
    assert [[line["path"] for line in result["predictions"]] for result in results] == [["a.png"], ["a.png"]]


def test_predict_links_out_of_the_folder_are_counted_and_followed_on_request(run, tmp_path):
    draw_image(tmp_path / "images", "a.png")
    (tmp_path / "images" / "b.png").symlink_to(draw_image(tmp_path / "disk", "b.png"))
    done = run("images", "--json")
    assert len(json.loads(done.stdout)["predictions"]) == 1
    assert done.stderr == (
        f"warning: 1 links lead out of the folders and are not followed, first images/b.png -> {tmp_path / 'disk' / 'b.png'}; "
        "--follow-links follows them\n"
    )
    done = run("images", "--json", "--follow-links")
    assert (len(json.loads(done.stdout)["predictions"]), done.stderr) == (2, "")


def test_predict_file_that_cannot_be_read_has_exit_status_1_and_the_others_a_line(run, tmp_path):
    draw_image(tmp_path, "a.png")
    (tmp_path / "b\udcff\n.png").write_bytes(b"not an image")
    done = run(".")
    assert done.exit_code == 1
    assert "a.png  normal" in done.stdout
    assert sum(line.startswith("not predicted: ") for line in done.stdout.splitlines()) == 1
    assert len((tmp_path / "predictions" / LINES_FILE).read_text().splitlines()) == 2


def test_predict_uses_the_engine_that_is_named(run, tmp_path):
    draw_image(tmp_path / "images", "dark.png")
    assert run("images").exit_code == 0
    assert run("images", "--engine", "torch", engine="torch").exit_code == 0
    refused = run("images", "--engine", "onnx")
    assert refused.exit_code == 2
    assert "'onnx' is not one of 'auto', 'torch', 'openvino'" in refused.stderr


def test_predict_resumed_keeps_what_the_folder_has_of_the_same_model(run, tmp_path):
    for name in ("a.png", "b.png"):
        draw_image(tmp_path / "images", name)
    assert run("images/a.png", "--resume").exit_code == 0
    result = json.loads(run("images", "--resume", "--json", "--format", "parquet").stdout)
    assert (result["images"], result["kept"], [line["path"] for line in result["predictions"]]) == (2, 1, ["images/b.png"])
    assert result["file"] == "predictions/predictions.parquet"
    assert "1 kept from before" in run("images", "--resume").stdout + run("images/a.png", "--resume").stdout
    refused = run("images", "--resume", digest="2")
    assert refused.exit_code == 2
    assert refused.stderr.startswith("error: predictions: its lines are of model any, threshold 0.8, not of any, threshold 0.8; ")
    assert refused.stderr.count("\n") == 1


def test_predict_many_images_are_not_listed(run, tmp_path, monkeypatch):
    monkeypatch.setattr("adjobs.cli.predict.MAX_SHOWN", 2)
    for name in ("a.png", "b.png", "c.png"):
        draw_image(tmp_path / "images", name)
    (tmp_path / "images" / "b.png").write_bytes(b"not an image")
    done = run("images", "--no-overlays", "--json")
    result = json.loads(done.stdout)
    assert (result["images"], result["failed"], result["predictions"]) == (3, 1, None)
    assert done.stderr == ""  # no bar: it is no terminal
    text = run("images").stdout
    assert text.startswith("not predicted: images/b.png: is not a supported image")
    assert "images/a.png" not in text
    assert "3 predicted (0 anomalous, 1 failed)" in text


def test_predict_patterns_and_lists_are_inputs(run, tmp_path):
    for name in ("a.png", "b.png", "c.jpg"):
        draw_image(tmp_path / "images", name)
    (tmp_path / "list.txt").write_text("images/c.jpg\n")
    result = json.loads(run("images/*.png", "list.txt", "--json").stdout)
    assert [line["path"] for line in result["predictions"]] == ["images/a.png", "images/b.png", "images/c.jpg"]


def test_predict_workers_without_ray_are_refused(run, tmp_path):
    draw_image(tmp_path, "a.png")
    refused = run("a.png", "--workers", "2")
    assert (refused.exit_code, refused.stderr) == (
        2,
        "error: --workers: is for --backend ray; add that, or leave --workers out\n",
    )


def test_predict_that_is_stopped_says_how_to_go_on(run, tmp_path, monkeypatch):
    for index in range(9):
        draw_image(tmp_path / "images", f"{index}.png")
    predicted = _Display.predicted

    def interrupt(display, line):
        predicted(display, line)
        if display.done == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(_Display, "predicted", interrupt)
    stopped = run("images")
    assert stopped.exit_code == 130
    assert stopped.stderr == "stopped after 3 of 9 images; go on with the same command and --resume\n"


def test_predict_writes_a_page_with_the_labels_of_folders_and_their_totals(run, tmp_path):
    draw_image(tmp_path / "images" / "good", "a.png")
    draw_image(tmp_path / "images" / "bad" / "dent", "b.png", (0, 0, 160, 96))
    draw_image(tmp_path / "images" / "bad" / "dent", "c.png")
    done = run("images")
    assert done.exit_code == 0
    assert "of 3 images with a label: 1 of 2 anomalous ones detected, 0 false alarms among 1 normal ones\n" in done.stdout
    assert done.stdout.endswith("to see them, open predictions/index.html\n")
    page = (tmp_path / "predictions" / "index.html").read_text()
    assert 'src="./b.png"' in page
    assert "label anomalous: dent" in page
    result = json.loads(run("images", "--json", "--resume").stdout)
    assert result["labelled"] == {"anomalous": 2, "detected": 1, "normal": 1, "false_alarms": 0}
    assert result["page"] == "predictions/index.html"


def test_predict_page_of_another_is_not_replaced_and_an_older_one_goes_first(run, tmp_path, monkeypatch):
    draw_image(tmp_path / "images", "a.png")
    assert run("images").exit_code == 0
    page = tmp_path / "predictions" / "index.html"

    def interrupt(display, line):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_Display, "predicted", interrupt)
        assert run("images").exit_code == 130
    assert not page.exists()  # of results that are gone
    page.write_text("mine")
    refused = run("images")
    assert refused.exit_code == 2
    assert "index.html: exists and was not written by 'adjobs predict'" in refused.stderr
    assert page.read_text() == "mine"
