"""``adjobs tune``: what is wrong is refused in one line before anything is started, and how a result is shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from adjobs.cli.main import main
from adjobs.cli.tune import describe, parse_duration
from adjobs.errors import JobError
from adjobs.tuning import search
from adjobs.tuning.result import Optimism, SearchResult
from adjobs.tuning.summary import summarise_study
from tests.helpers.drawing import draw_folder
from tests.helpers.search import FakeSearch

SPACE = {"method": "cdo", "parameters": {"params.gamma": {"uniform": [0, 4]}}}


@pytest.fixture(scope="module")
def folder(own_home) -> Path:
    """A job, a space, and a data set in one folder; nothing may be started."""
    draw_folder(own_home / "data", 20, 10)
    (own_home / "job.yaml").write_text(
        yaml.safe_dump({"method": "cdo", "data": {"uri": str(own_home / "data"), "image_size": 64}})
    )
    (own_home / "space.yaml").write_text(yaml.safe_dump(SPACE))
    return own_home


@pytest.fixture(autouse=True)
def _without_ray(monkeypatch) -> None:
    monkeypatch.setattr(search.ray_backend, "connected", None)


def refusal(folder: Path, *arguments: str, parameters: dict[str, object] | None = None) -> str:
    space = folder / "space.yaml"
    if parameters is not None:
        space = folder / "other.yaml"
        space.write_text(yaml.safe_dump({"method": "cdo", "parameters": parameters}))
    result = CliRunner().invoke(main, ["tune", str(folder / "job.yaml"), "--space", str(space), *arguments])
    assert result.exit_code == 2, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert not (folder / "home" / "mlflow").exists()
    return line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--metric", "image_auc"], "did you mean 'image_auroc'"),
        (["--metric", "pixel_ap", "--pruner", "asha"], "pixel_ap is known at the end only; give --pruner none"),
        (["--metric", "image_auroc", "--metric", "ms_per_image", "--pruner", "median"], "ms_per_image is known at the end only"),
        (["--set", "method=dpae"], "method: got cdo, the job's is dpae"),
        (["--sampler", "grid"], "params.gamma: a grid needs a finite number of values"),
        (["--set", "params.gamma=9"], "params.gamma: got 9"),
        (["--set", "data.uri=nowhere"], "nowhere"),
        (["--set", "track=none"], "track: got none, a search is recorded in MLflow"),
        (["--time-budget", "2"], "--time-budget: got '2'; give a positive number with a unit, such as 90s, 45m, 2h or 1d"),
    ],
)
def test_tune_options_that_do_not_fit_are_refused(folder, arguments, message):
    assert message in refusal(folder, *arguments)


def test_tune_grid_larger_than_the_trials_is_refused(folder):
    line = refusal(folder, "--sampler", "grid", "--trials", "2", parameters={"params.last_level": {"choice": [1, 2, 3]}})
    assert "got 2, the grid has 3 points" in line


def test_tune_splits_that_leak_test_images_are_refused(folder):
    line = refusal(folder, parameters={"data.protocol": {"choice": ["holdout", "liac"]}})
    assert "so that test images would choose" in line


def test_tune_validation_split_without_anomalies_is_refused(folder):
    line = refusal(folder, "--set", "data.protocol=dpae")
    assert "the validation split lacks normal or anomalous images" in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a job file and --space FILE"),
        (["--resume", "x", "--seed", "1", "--trials", "3"], "takes --seed from the search"),
        (["job.yaml", "--resume", "x"], "takes the job file from the search"),
        (["--resume", "x", "--time-budget", "2x"], "--time-budget: got '2x'"),
    ],
)
def test_tune_missing_or_superfluous_options_are_refused(arguments, message):
    result = CliRunner().invoke(main, ["tune", *arguments, "--json"])
    assert result.exit_code == 2
    assert message in json.loads(result.stdout)["error"]


@pytest.mark.slow
def test_tune_resume_unknown_search_is_refused(folder, empty_mlflow, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", empty_mlflow(folder / "empty"))
    result = CliRunner().invoke(main, ["tune", "--resume", "unknown"])
    assert result.exit_code == 2
    assert "search 'unknown': does not exist" in result.stderr


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90.0), ("45m", 2700.0), ("2h", 7200.0), ("1.5h", 5400.0), ("1d", 86400.0), (" 2h ", 7200.0)]
)
def test_parse_duration_units(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["2", "0s", "h", "-1h", "1h30m", "2 h", "nanh", "9" * 400 + "d", ""])
def test_parse_duration_other_texts_are_refused(text):
    with pytest.raises(JobError, match="give a positive number with a unit"):
        parse_duration(text)


def test_describe_shows_trials_front_and_optimism():
    fake = FakeSearch(metrics=("image_auroc", "ms_per_image"))
    for value, cost in ((0.9, 20.0), (0.7, 5.0), (0.6, 6.0)):
        fake.run(image_auroc=value, ms_per_image=cost)
    fake.start()
    fake.manager.on_error(3, "loss not finite")
    optimism = {"image_auroc": Optimism(0.9, 0.91, 0.8, 0.7, 0.9, 0.1)}
    result = SearchResult("mine", "r", None, "u", "cdo", "d", summarise_study(fake.manager), optimism, "f", "m", 7.0)
    text = describe(result)
    assert "trials      4: 3 complete, 1 failed" in text
    assert "best        trial 0, image_auroc 0.9000; the job as it is: 0.9000" in text
    assert "0*     0.9000       20.0000       10       gamma 2" in text
    assert "\n2      0.6000" in text
    assert "* on the Pareto front" in text
    assert "\nseeds       each setting was trained with one seed, so that nothing says how far chance moves the result\n" in text
    assert "trained in full: validation 0.9100, test 0.8000 (95 % interval 0.700 to 0.900)" in text
    assert "optimism    0.1000" in text


def test_describe_shows_the_finalists_with_all_their_seeds():
    fake = FakeSearch(trials=2, max_concurrent=1, repeats=1)
    for value in (0.8, 0.9, 0.7, 0.82):
        fake.run(image_auroc=value)
    study = summarise_study(fake.manager)
    text = describe(SearchResult("mine", "r", None, "u", "cdo", "d", study, {}, "f", "m", 7.0))
    assert "trials      2: 2 complete" in text
    assert "best        trial 0, image_auroc 0.8000" in text
    assert "trial                seed 0  seed 1  mean\n0, the job as it is  0.8000  0.8200  0.8100\n1" in text
    assert "\n\nseeds       another seed changes image_auroc by 0.1005 (standard deviation); on average no trial is" in text
