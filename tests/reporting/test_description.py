"""Descriptions in Markdown."""

from __future__ import annotations

import pytest

from adjobs.metrics.intervals import Estimate
from adjobs.reporting.description import describe_model, describe_run, describe_version, headline
from adjobs.reporting.report import SplitReport
from tests.helpers.reporting import report


def test_describe_run_starts_with_numbers_and_says_how_to_use_it():
    blocks = describe_run(report()).split("\n\n")
    assert blocks[0] == "image AUROC 0.912 on the test images."
    assert blocks[1] == (
        "**Collaborative Discrepancy Optimization (`cdo`)** on `tiles`: training 1 normal, test 1 normal and 7 anomalous images."
    )
    assert blocks[2].startswith("- Images alarm from a score of ")
    assert blocks[3].splitlines()[2] == "| image AUROC&emsp; | 0.912&emsp; | 0.880 to 0.940&emsp; |"
    assert blocks[4] == f"![scores of the test images](get-artifact?path=description.png&run_uuid={'a' * 32})"
    assert f"`adjobs predict --model {'a' * 32} IMAGES`" in blocks[5]


def test_describe_version_is_shorter_and_names_it():
    text = describe_version(report(), "models:/line-3/7")
    assert text.startswith("image AUROC 0.912 on the test images.")
    assert "get-artifact" not in text
    assert text.endswith("Use it: `adjobs predict --model models:/line-3/7 IMAGES`")


def test_describe_model_has_the_commands():
    assert "`adjobs models compare line-3@champion line-3/VERSION`" in describe_model("line-3")


def test_headline_has_what_is_defined():
    overall = {"image_recall": Estimate(0.5), "pixel_ap": Estimate(None), "image_auroc": Estimate(0.75)}
    assert headline(report(splits={"test": SplitReport(overall)})) == "image AUROC 0.750, recall 0.500 on the test images."
    assert headline(report(splits={})) == ""


@pytest.mark.parametrize("uri", ["s3://bucket/`*x*`<b>", "/" + "x" * 5000, "\n# head"])
def test_describe_run_hostile_data_stays_in_its_place(uri):
    text = describe_run(report(data={"uri": uri, "counts": {}}))
    assert len(text) < 3000
    assert text.split("\n\n")[1].count("`") == 4
    assert "\n#" not in text
