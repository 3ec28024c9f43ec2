"""No verb replaces a file that it has not written."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from adjobs.cli.main import main
from tests.helpers.drawing import draw_folder

VERBS = {
    "predict overlay": (["predict", "SET/good/000.png", "--model", "missing", "--out", "OUT"], "000.png"),
    "predict overlay of a JPEG": (["predict", "SET/good/000.jpg", "--model", "missing", "--out", "OUT"], "000.png"),
    "predict lines": (["predict", "SET", "--model", "missing", "--out", "OUT"], "predictions.jsonl"),
    "synth": (["synth", "cdo", "--data", "SET", "--out", "OUT"], "cdo.png"),
    "report": (["report", "missing", "--out", "OUT/report.html"], "report.html"),
    "split": (["data", "split", "SET", "--out", "OUT/split.json"], "split.json"),
    "look": (["data", "look", "SET", "--out", "OUT/sheet.html"], "sheet.html"),
    "schema": (["schema", "job", "--out", "OUT/job.json"], "job.json"),
    "schema of retrainings": (["schema", "retrain", "--out", "OUT/retrain.json"], "retrain.json"),
    "import": (["data", "import", "SET", "OUT"], "good/000.png"),
    "import manifest": (["data", "import", "SET", "OUT"], "manifest.jsonl"),
    "drift": (["drift", "missing", "SET", "--out", "OUT"], "drift.html"),
    "drift result": (["drift", "missing", "SET", "--out", "OUT"], "drift.json"),
    "label suggest": (["label", "suggest", "missing", "SET", "--out", "OUT/tasks.json"], "tasks.json"),
    "label suggest configuration": (["label", "suggest", "missing", "SET", "--out", "OUT/tasks.json"], "tasks.xml"),
    "export to ONNX": (["export", "missing", "--format", "onnx", "--out", "OUT"], "model.onnx"),
    "export to OpenVINO": (["export", "missing", "--format", "openvino", "--out", "OUT"], "model.bin"),
    "export manifest": (["export", "missing", "--format", "onnx", "--out", "OUT"], "detector.json"),
}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    root = draw_folder(tmp_path_factory.mktemp("drawn"), 20, 5)
    (root / "good" / "000.jpg").write_bytes((root / "good" / "000.png").read_bytes())
    return root


def run(arguments: list[str], images: Path, out: Path) -> Result:
    return CliRunner().invoke(main, [text.replace("SET", str(images)).replace("OUT", str(out)) for text in arguments])


def snapshot(folder: Path) -> dict[str, object]:
    """Every file below a folder: its content, or where the link leads."""
    paths = sorted(folder.rglob("*"))
    return {str(p): str(p.readlink()) if p.is_symlink() else p.read_bytes() if p.is_file() else None for p in paths}


@pytest.mark.parametrize("is_link", [False, True])
@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_existing_file_is_kept_and_refused_in_one_line(verb, is_link, images, tmp_path, own_home):
    arguments, name = VERBS[verb]
    if arguments[0] == "export":
        for package in ("onnx", "onnxscript", "onnxruntime", "openvino"):
            pytest.importorskip(package)
    target = tmp_path / "out" / name
    target.parent.mkdir(parents=True)
    theirs = tmp_path / "theirs" if is_link else target
    theirs.write_text("<html>the user's</html>")
    if is_link:
        target.symlink_to(theirs)
    before = snapshot(tmp_path), snapshot(images)
    done = run(arguments, images, tmp_path / "out")
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(f"error: {tmp_path / 'out'}")
    assert (snapshot(tmp_path), snapshot(images)) == before


@pytest.mark.parametrize("verb", ["split", "look", "schema", "schema of retrainings", "import"])
def test_every_verb_replaces_its_own_result(verb, images, tmp_path, own_home, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for out in ("new/out", "new/out/", str(tmp_path / "new" / "out")):
        done = run(VERBS[verb][0], images, Path(out))
        assert done.exit_code == 0, done.output


@pytest.mark.parametrize("out", ["SET/good", "SET/good/", "SET/bad/../good", "link"])
def test_predict_into_its_own_inputs_is_refused(out, images, tmp_path, own_home):
    (tmp_path / "link").symlink_to(images / "good")
    folder = str(tmp_path / "link") if out == "link" else out
    before = snapshot(images)
    done = run(["predict", "SET/good", "--model", "missing", "--out", folder], images, tmp_path)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "holds images to predict, such as 000.jpg; choose another folder with --out" in done.stderr
    assert snapshot(images) == before
