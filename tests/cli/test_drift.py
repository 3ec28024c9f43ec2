"""``adjobs drift``: exit status, text and JSON."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from adjobs.cli.main import main
from tests.helpers.drawing import draw_folder
from tests.helpers.drift import draw_normal, folder_run
from tests.helpers.jobs import local_settings


@pytest.fixture(scope="module")
def run_id(own_home) -> str:
    draw_folder(own_home / "data", 200, 8)
    draw_normal(own_home / "same", 50, seed=11)
    draw_normal(own_home / "dark", 50, seed=12, factor=0.9)
    return folder_run(local_settings(own_home), own_home / "data", own_home / "temporary").run_id


@pytest.fixture
def drift(own_home, run_id, monkeypatch):
    """Run the verb; loading the pretrained network takes seconds."""
    monkeypatch.setattr("adjobs.drift.run.has_features", lambda: False)

    def run(images: str, *words: str) -> Result:
        return CliRunner().invoke(main, ["drift", run_id, str(own_home / images), *words])

    return run


@pytest.mark.slow
def test_drift_of_similar_images_has_exit_status_0(drift):
    done = drift("same", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["has_drifted"] is False


@pytest.mark.slow
def test_drift_of_darker_images_has_exit_status_1_and_says_why(drift, tmp_path, run_id):
    done = drift("dark", "--out", str(tmp_path / "out"), "--log")
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert lines[0].startswith("drift: brightness 109 → 98")
    shifted = [line.split()[0] for line in lines if line.endswith("  yes")]
    assert shifted == ["brightness", "contrast", "sharpness"]
    assert lines[-2] == f"drift.html and drift.json in {tmp_path / 'out'}"
    assert lines[-1].startswith("drift/20")
    assert lines[-1].endswith(f".json in run {run_id}")
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"drift.html", "drift.json"}


@pytest.mark.slow
def test_drift_of_too_few_images_has_exit_status_2_and_a_result(drift):
    done = drift("same/001.png", "--json")
    assert (done.exit_code, done.stderr.count("error: only 1 of 1 recent images can be used")) == (2, 1)
    done = drift("same/00*.png", "--json")
    assert done.exit_code == 2
    assert json.loads(done.stdout)["has_drifted"] is None
    assert done.stderr.startswith("cannot tell: 10 recent images against 40 reference images are too few")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--alpha", "0"], "alpha: got 0.0, must be from 0.001 to 0.2"),
        (["--max-anomalous-share", "0.6"], "max_anomalous_share: got 0.6"),
        (["--reference", "train"], "'train' is not one of 'val', 'test', 'both'"),
    ],
)
def test_drift_options_out_of_range_have_exit_status_2(words, message):
    done = CliRunner().invoke(main, ["drift", "run", "images", *words])
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
