"""``adjobs tune``: everything that is wrong is said on one line before anything is started."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from adjobs.cli.main import main
from adjobs.tuning import search
from tests.helpers.drawing import draw_folder

SPACE = {"method": "cdo", "axes": {"params.gamma": {"uniform": [0, 4]}}}


@pytest.fixture(scope="module")
def place(own_home) -> Path:
    """A job, a space, and a data set in one folder; nothing may be started."""
    draw_folder(own_home / "data", 20, 10)
    (own_home / "job.yaml").write_text(
        yaml.safe_dump({"method": "cdo", "data": {"uri": str(own_home / "data"), "image_size": 64}})
    )
    (own_home / "space.yaml").write_text(yaml.safe_dump(SPACE))
    return own_home


@pytest.fixture(autouse=True)
def _not_started(monkeypatch) -> None:
    monkeypatch.setattr(search.ray_backend, "connected", None)


def refusal(place: Path, *arguments: str, axes: dict[str, object] | None = None) -> str:
    space = place / "space.yaml"
    if axes is not None:
        space = place / "other.yaml"
        space.write_text(yaml.safe_dump({"method": "cdo", "axes": axes}))
    done = CliRunner().invoke(main, ["tune", str(place / "job.yaml"), "--space", str(space), *arguments])
    assert done.exit_code == 2, done.output
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert not (place / "home" / "mlflow").exists()
    return line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--metric", "image_auc"], "did you mean image_auroc"),
        (["--metric", "pixel_ap", "--stopper", "asha"], "pixel_ap is known at the end only; give --stopper none"),
        (["--metric", "image_auroc", "--metric", "ms_per_image", "--stopper", "median"], "ms_per_image is known at the end only"),
        (["--set", "method=dpae"], "method: got cdo, the job's is dpae"),
        (["--sampler", "grid"], "params.gamma: a grid needs values that can be counted"),
        (["--set", "params.gamma=9"], "params.gamma: got 9"),
        (["--set", "data.uri=nowhere"], "nowhere"),
    ],
)
def test_options_that_do_not_fit(place, arguments, message):
    assert message in refusal(place, *arguments)


def test_a_grid_larger_than_the_trials(place):
    line = refusal(place, "--sampler", "grid", "--trials", "2", axes={"params.last_level": {"choice": [1, 2, 3]}})
    assert "got 2, the grid has 3 points" in line


def test_divisions_between_which_test_pictures_would_choose(place):
    line = refusal(place, axes={"data.protocol": {"choice": ["holdout", "liac"]}})
    assert "so that test pictures would choose" in line


def test_a_validation_part_without_anomalies(place):
    line = refusal(place, "--set", "data.protocol=dpae")
    assert "the validation part lacks good or anomalous pictures" in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a job file and --space FILE"),
        (["--resume", "x", "--seed", "1", "--trials", "3"], "takes seed from the search"),
    ],
)
def test_what_is_missing_or_too_much(arguments, message):
    done = CliRunner().invoke(main, ["tune", *arguments, "--json"])
    assert done.exit_code == 2
    assert message in json.loads(done.stdout)["error"]


def test_a_search_that_nobody_started(place):
    done = CliRunner().invoke(main, ["tune", "--resume", "nobody"])
    assert done.exit_code == 2
    assert "search 'nobody': there is none" in done.stderr
