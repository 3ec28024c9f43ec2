"""``adjobs compare``: what is wrong is refused in one line, options and file make one comparison, and how a result is shown."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from adjobs.cli import submit
from adjobs.cli.compare import describe, read_config
from adjobs.cli.main import main
from adjobs.comparison.result import CurvePoint
from adjobs.errors import JobError
from adjobs.evaluation.compare import Difference
from tests.helpers.comparison import make_ranking, make_result, make_trained

NO_OPTIONS = {"methods": None, "budget": None, "metric": None, "overrides": ()}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to compare on: give a folder, an s3:// URI or a job file, or --resume NAME"),
        (["--resume", "night", "--budget", "1h"], "--resume: takes everything from the comparison"),
        (["images", "--budget", "soon"], "compare.budget: got 'soon'; give a positive number with a unit"),
        (["images", "--methods", "cdo,lia"], "unknown method 'lia'; available: cdo, dpae, liac, semirest, slsg"),
        (["images", "--metric", "auc"], "compare.metric: got 'auc'; must be one of image_auroc"),
        (["images", "--set", "track=none"], "track: got none, a comparison is recorded in MLflow"),
        (["no.yaml"], "job file 'no.yaml': cannot be read"),
    ],
)
def test_compare_what_cannot_be_is_refused_in_one_line(own_home, arguments, message):
    result = CliRunner().invoke(main, ["compare", *arguments])
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (own_home / "home").exists()


def test_read_config_options_replace_what_the_file_says(tmp_path):
    path = tmp_path / "compare.yaml"
    path.write_text(yaml.safe_dump({"compare": {"methods": ["slsg"], "budget": "2h"}, "data": {"uri": "images"}}))
    config = read_config(str(path), **{**NO_OPTIONS, "methods": "cdo, liac", "overrides": ("data.image_size=64",)})
    assert [candidate.label for candidate in config.candidates] == ["cdo", "liac"]
    assert (config.compare.budget, config.data.image_size) == ("2h", 64)
    assert read_config("images", **NO_OPTIONS).data.uri == "images"


def test_submit_file_with_a_section_compare_is_a_comparison(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "night.yaml"
    path.write_text(yaml.safe_dump({"compare": {"methods": ["cdo"]}, "data": {"uri": "images"}}))
    options = {"overrides": (), "name": None, "priority": 0, "after": (), "force": False}
    request = submit._request(path, None, [], space=None, **options)
    assert (request["verb"], request["name"], request["key"]) == ("compare", "night", None)
    assert request["document"]["data"]["uri"] == str(tmp_path / "images")
    assert request["document"]["compare"]["methods"][0]["method"] == "cdo"
    with pytest.raises(JobError, match="a comparison takes no --space and no --working-dir"):
        submit._request(path, None, [], space=Path("space.yaml"), **options)


def test_describe_has_table_curve_advice_and_test():
    curves = [CurvePoint("cdo", 20, 0.8, Difference(0.05, 0.02, 0.08, 0.001), "7b")]
    text = describe(make_result(make_ranking([make_trained("cdo", 2.0), make_trained("dpae", 0.1)], curves)))
    assert "*  cdo     0." in text
    assert "liac left out: the training split has no anomalies" in text
    assert "cdo     20                  0.8000       +0.050 (+0.020 to +0.080)" in text
    assert "\nTake it.\n" in text
    assert "cdo on the test split, which chose nothing: image AUROC 0.910 (0.850 to 0.950)" in text
