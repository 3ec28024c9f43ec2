"""Every mistake of a user is one line: what was got, what is allowed, what to do. Exit status 2, and no run is left open."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from adjobs.cli.main import main
from tests.helpers.drawing import draw_folder

SMALL = [
    "--local",
    "--set",
    "params.backbone=resnet18",
    "--set",
    "params.weights=none",
    "--set",
    "params.epochs=1",
    "--set",
    "data.image_size=64",
]


@pytest.fixture(autouse=True)
def _temporary_home(tmp_path, monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "ADJOBS_ARTIFACTS", "RAY_ADDRESS", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ADJOBS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("os.environ", os.environ.copy())


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


def refused(result: Result) -> str:
    """The one line of an error, after those that name what takes long on a busy machine."""
    assert result.exit_code == 2, result.output
    *waits, error = result.stderr.splitlines()
    assert error.startswith("error: ")
    assert [line for line in waits if not line.endswith(" ...")] == []
    assert "Traceback" not in result.output
    return error


def train(data: str | Path, *options: str) -> Result:
    return run("train", "--method", "cdo", "--data", data, *SMALL, *options)


def huge_png(path: Path) -> None:
    """40,000 × 40,000 pixels in a small file: all zero, well compressed."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = (40_000).to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "cod", "--data", "x"], "unknown method 'cod'; available: .*; did you mean 'cdo'"),
        (["--method", "cdo", "--data", "no/such/folder"], "no/such/folder"),
        (["--method", "cdo", "--data", "ftp://x/y"], "ftp.*allowed are"),
        (["--method", "cdo", "--data", "elpv", "--set", "data.format=mvtek"], "mvtek.*did you mean 'mvtec'"),
        (
            ["--method", "cdo", "--data", "elpv", "--set", "data.protocol=hold"],
            "hold.*available: budget, dpae, holdout, liac, official",
        ),
        (["--method", "cdo", "--data", "elpv", "--set", "train.workers=2", "--local"], "training in this process has 1"),
        (["--method", "cdo", "--data", "elpv", "--set", "train.workers=[2, 4]", "--local"], r"got \[2, 4\], training in this"),
        ([], "nothing to train"),
        (["no.yaml"], "job file 'no.yaml': cannot be read"),
        (["--resume", "x", "--method", "cdo"], "--resume: takes the job, and where it trains, from the run"),
        (["--resume", "x", "--local"], "--resume: takes the job, and where it trains, from the run"),
    ],
)
def test_train_wrong_argument_is_refused(arguments, message):
    import re

    assert re.search(message, refused(run("train", *arguments)))


def test_train_data_beside_a_section_that_is_no_section_is_refused(tmp_path):
    (tmp_path / "job.yaml").write_text("method: cdo\ndata: elpv\n")
    assert "data: got 'elpv'; must be a section of keys and values" in refused(run("train", tmp_path / "job.yaml", "--data", "x"))


def test_json_error_is_json():
    result = run("train", "--method", "cod", "--data", "x", "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"].startswith("job: unknown method 'cod'")


def test_debug_error_has_a_traceback():
    result = run("train", "--method", "cod", "--data", "x", "--debug")
    assert result.exit_code == 2
    assert "Traceback" in result.stderr


def test_train_empty_class_is_refused(tmp_path):
    (tmp_path / "data" / "good").mkdir(parents=True)
    (tmp_path / "data" / "bad").mkdir()
    assert "no " in refused(train(tmp_path / "data"))


def test_train_only_anomalies_is_refused(tmp_path):
    root = draw_folder(tmp_path / "data", 0, 12)
    assert "normal" in refused(train(root))


def test_train_invalid_files_are_reported_before_a_run_starts(tmp_path):
    root = draw_folder(tmp_path / "data", 20, 10)
    (root / "good" / "000.png").write_bytes(b"not an image")
    huge_png(root / "good" / "001.png")
    draw_folder(tmp_path / "other", 0, 1, size=32)
    (tmp_path / "other" / "masks" / "scratch" / "000.png").rename(root / "masks" / "scratch" / "003.png")
    line = refused(train(root))
    assert "3 problems found, first: " in line
    assert "data check" in line
    checked = run("data", "check", root)
    assert checked.exit_code == 1
    for name in ("good/000.png", "good/001.png", "bad/scratch/003.png"):
        assert name in checked.stdout
    assert not (tmp_path / "home" / "mlflow").exists()


@pytest.mark.slow
def test_train_skip_invalid_leaves_images_out_and_records_them(tmp_path, empty_mlflow):
    empty_mlflow(tmp_path / "home")
    root = draw_folder(tmp_path / "data", 20, 10)
    (root / "good" / "000.png").write_bytes(b"not an image")
    result = run("train", "--method", "cdo", "--data", root, *SMALL, "--set", "data.skip_invalid=true", "--json")
    assert result.exit_code == 0, result.output
    import mlflow

    summary = json.loads(result.stdout)
    mlflow.set_tracking_uri(summary["tracking_uri"])
    (excluded,) = mlflow.artifacts.load_dict(f"runs:/{summary['run_id']}/preflight.json")["excluded"]
    assert excluded["sample"] == "good/000.png"
    split = mlflow.artifacts.load_dict(f"runs:/{summary['run_id']}/split.json")
    assert not any("good/000.png" in split[name] for name in ("train", "val", "test"))


def test_train_policy_without_validation_anomalies_is_refused_before_training(tmp_path):
    root = draw_folder(tmp_path / "data", 20, 0)
    assert refused(train(root, "--set", "threshold.policy=max_f1"))
    assert not (tmp_path / "home" / "mlflow").exists()


def test_train_s3_does_not_answer_is_refused(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "y")
    assert "127.0.0.1:9" in refused(train("s3://bucket/images"))


def test_train_ray_does_not_answer_is_refused(tmp_path, monkeypatch):
    root = draw_folder(tmp_path / "data", 20, 10)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    line = refused(run("train", "--method", "cdo", "--data", root, *SMALL[1:]))
    assert "Ray at 127.0.0.1:9: nothing listens there" in line
    assert not (tmp_path / "home" / "mlflow").exists()


def test_predict_without_images_is_refused(tmp_path):
    assert "no such file or folder" in refused(run("predict", "--model", "x", tmp_path / "missing.png"))
    (tmp_path / "empty").mkdir()
    assert "a folder without images" in refused(run("predict", "--model", "x", tmp_path / "empty"))


HEAVY = ("torch", "ray", "mlflow", "timm", "boto3", "numpy", "sklearn", "pydantic", "pathspec", "http.client")


def run_python(code: str) -> str:
    """Standard output of a program of its own, which fails if it imports anything heavy."""
    check = f"import sys\nheavy = {set(HEAVY)} & set(sys.modules)\nassert not heavy, heavy\n"
    return subprocess.run([sys.executable, "-c", code + check], capture_output=True, text=True, check=True).stdout


def test_help_imports_nothing_heavy_and_lists_every_verb():
    text = run_python(
        "import sys; sys.argv = ['adjobs', '--help']\nfrom adjobs.cli.main import main\ntry: main()\nexcept SystemExit: pass\n"
    )
    for verb in ("data", "down", "methods", "predict", "report", "schema", "status", "threshold", "train", "up"):
        assert f"\n  {verb} " in text


def test_import_adjobs_imports_nothing_heavy():
    run_python("import adjobs\n")


def test_methods_lists_methods_and_params():
    result = run("methods", "--json")
    cdo = json.loads(result.stdout)["methods"]["cdo"]
    assert cdo["supervisions"] == ["none", "masks"]
    assert "2023" in cdo["paper"]
    assert "gamma = 2.0" in run("methods", "--params", "cdo").stdout
    assert "did you mean 'cdo'" in refused(run("methods", "--params", "cd"))
