"""The page: what it says of a run, that text from outside is escaped, and that it loads nothing from outside."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adjobs import methods
from adjobs.data.splits.assignment import SplitAssignment
from adjobs.errors import StorageError
from adjobs.metrics.intervals import Estimate
from adjobs.metrics.policies import ThresholdPolicy
from adjobs.metrics.threshold import choose_threshold
from adjobs.reporting import page
from adjobs.reporting.report import MetricGroup, RunReport, SplitReport
from adjobs.types import JobStatus
from tests.helpers.reporting import THRESHOLD, Page, png, render_page, report, text_from

HOSTILE = "<script>alert(1)</script>\"'&"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def test_render_finished_run_shows_everything():
    text = " ".join(render_page().text.split())
    for expected in (
        "cdo on tiles",
        "Collaborative Discrepancy Optimization, trained on s3://factory/tiles",
        "experiment line 3",
        "started 2026-11-22 14:03 UTC",
        "took 2 min 30 s",
        "commit b695732",
        "Split by protocol holdout , seed 5. Images: 1 for training, 1 for validation, 2 for the test.",
        "good/9.png truncated ends early; copy it again",
        "the whole data set few has 12 normal images",
        "Card of cdo",
        THRESHOLD.describe(),
        "bad/3.png",
    ):
        assert expected in text


def test_render_test_without_anomalous_images_says_what_that_means():
    data = {"uri": "normal", "counts": {"train/normal": 6, "val/normal": 2, "test/normal": 2}}
    splits = {
        "test": SplitReport({"image_auroc": Estimate(None, reason="no anomalous images"), "image_specificity": Estimate(1.0)})
    }
    text = " ".join(render_page(report(data=data, splits=splits)).text.split())
    assert "The test split has no anomalous images. The test measures false alarms only;" in text
    assert "not defined: no anomalous images" in text
    assert "The test split has no anomalous images" not in render_page().text


def test_render_metrics_have_intervals_or_reasons():
    parsed = render_page()
    assert text_from(parsed, "Metrics").startswith(
        "Metrics test validation image AUROC 0.912 0.880 to 0.940 0.800 pixel AP not defined: no masks –"
    )
    assert "crack 7 0.429 0.100 to 0.800" in text_from(parsed, "Defect types")
    assert "small (below 0.1 % of the image) 0.500 0.250 to 0.750" in text_from(parsed, "Sizes of defect regions")


def test_render_counts_images_by_label_and_type():
    assert text_from(render_page(), "images training validation test").startswith(
        "images training validation test normal 1 0 1 anomalous 0 0 7 crack 0 7"
    )


def test_render_figures_are_embedded_with_size_and_alternative_text():
    parsed = render_page()
    sources = parsed.values_of("img", "src")
    assert len(sources) == 4  # the training history was drawn for the page
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert all(parsed.values_of("img", "alt"))
    assert parsed.values_of("img", "width")[0] == str(round(40 * 108 / 150))


def test_render_page_loads_nothing_from_outside():
    card = "![x](http://evil/x.png) [out](https://doi.org/1) [in](javascript:alert(1)) <img src=http://evil/y.png>"
    parsed = render_page(report(card=card, link="http://127.0.0.1:5000/#/experiments/1"))
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & set(parsed.tags)
    assert not [name for _, name, _ in parsed.attributes if name.startswith("on") or name in ("srcset", "background", "action")]
    assert all(source.startswith("data:") for tag, name, source in parsed.attributes if name == "src")
    assert set(parsed.values_of("a", "href")) == {"https://doi.org/1", "http://127.0.0.1:5000/#/experiments/1"}
    source = page.render([report()])
    assert "url(" not in source
    assert "@import" not in source
    assert "default-src 'none'" in source


def test_render_hostile_names_are_escaped():
    estimate = Estimate(0.5, reason=HOSTILE)
    hostile = report(
        run_id=HOSTILE,
        name=HOSTILE,
        experiment=HOSTILE,
        status=HOSTILE,
        link=None,
        tags=dict.fromkeys(("method", "version", "git_commit", "error", "preset", "model", "metrics_version"), HOSTILE),
        job=HOSTILE,
        split=SplitAssignment(HOSTILE, 0, (HOSTILE,), (), (HOSTILE,)),
        data={"uri": HOSTILE, "format": HOSTILE, "fingerprint": HOSTILE, "counts": {f"train/{HOSTILE}": 3}},
        splits={
            "test": SplitReport(
                {HOSTILE: estimate, "x": Estimate(None, reason=HOSTILE)}, {HOSTILE: MetricGroup(1, {HOSTILE: estimate})}
            )
        },
        thresholds={
            "image": {"policy": HOSTILE, "value": 1.0},
            "history": [{"time": HOSTILE, "by": HOSTILE, "level": HOSTILE, "new": {}}],
        },
        excluded=({"sample": HOSTILE, "kind": HOSTILE, "message": HOSTILE},),
        figures={HOSTILE: png()},
        card=f"# {HOSTILE}\n\n`{HOSTILE}` {HOSTILE}",
    )
    for parsed in (render_page(hostile), render_page(hostile, report())):
        assert not {"script"} & set(parsed.tags)
        assert parsed.text.count("alert(1)") > 20
        # Quotes cannot end an attribute.
        allowed = {"class", "scope", "colspan", "src", "style", "width", "height", "alt", "href", "id", "open", "lang", "charset"}
        assert {name for _, name, _ in parsed.attributes} <= allowed | {"name", "content", "http-equiv"}


@pytest.mark.slow
def test_render_run_without_artifacts_says_so_in_every_section():
    bare = RunReport(
        "b" * 32, "cdo-x", "e", JobStatus.FAILED, tags={"method": "gone", "error": "storage 's3://x': full; make room"}, job=None
    )
    text = " ".join(render_page(bare).text.split())
    for expected in (
        "FAILED",
        "storage 's3://x': full; make room",
        "The run has no metrics",
        "The run has no threshold",
        "The run has no galleries",
        "The run has no figures of its test images",
        "The run recorded no checkpoint",
        "The run recorded no data",
        "The run recorded no split",
        "The run recorded no job",
        "This adjobs has no card of the method",
    ):
        assert expected in text


def test_render_several_runs_are_compared_at_the_top():
    failed = RunReport("c" * 32, "cdo-failed", "e", JobStatus.FAILED, tags={"method": "cdo"})
    parsed = render_page(report(), report(run_id="b" * 32, name="cdo-2"), failed)
    assert text_from(parsed, "Comparison").startswith(
        "Comparison test images run image AUROC cdo-tiles run aaaaaaaa data 9f86d081 0.912 0.880 to 0.940 cdo-2 run bbbbbbbb"
    )
    assert "cdo-failed run cccccccc, FAILED –" in text_from(parsed, "cdo-failed")
    assert [f"#{target}" for target in parsed.values_of("article", "id")] == parsed.values_of("a", "href")
    assert "different" not in parsed.text


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"data": {"fingerprint": "other"}, "tags": {"method": "cdo", "data_fingerprint": "x"}}, "used different data"),
        ({"split": SplitAssignment("holdout", 1, (), (), ("good/0.png",))}, "tested on different images"),
        ({"tags": {"method": "cdo", "metrics_version": "2"}}, "different versions of their definitions"),
    ],
)
def test_render_incomparable_runs_have_warning(changes, warning):
    assert warning in render_page(report(), report(run_id="b" * 32, **changes)).text


def test_render_threshold_changes_are_listed():
    new = choose_threshold(ThresholdPolicy("fixed", 0.25), [0, 1], [0.0, 1.0])
    change = {
        "time": "2026-11-23T08:12:44+00:00",
        "by": "mia",
        "level": "image",
        "old": THRESHOLD.to_dict(),
        "new": new.to_dict(),
    }
    text = text_from(
        render_page(report(thresholds={"image": new.to_dict(), "history": [change]})), "Changed since the training: 1"
    )
    assert f"2026-11-23 08:12 mia images {THRESHOLD.value:.6g} 0.25 {new.describe()}" in text


@pytest.mark.parametrize(("level", "has_note"), [("image", True), ("pixel", False)])
def test_render_galleries_have_note_after_change_for_images_only(level, has_note):
    change = {"time": "2026-11-23T08:12:44+00:00", "by": "mia", "level": level, "old": None, "new": {"policy": "x", "value": 1}}
    text = render_page(report(thresholds={"image": THRESHOLD.to_dict(), "history": [change]})).text
    assert ("Chosen at the threshold of the training, which has changed since." in text) == has_note


def test_render_unknown_policy_is_shown_without_meaning():
    assert "Policy quantile." in render_page(report(thresholds={"image": {"policy": "quantile", "value": 3.5}})).text


def test_markdown_to_html_renders_cards_of_all_methods():
    for name in methods.names():
        text = (Path(methods.__file__).parent / name / "README.md").read_text()
        parsed = Page(page.markdown_to_html(text))
        assert not {"h1", "h2", "h3", "script"} & set(parsed.tags)
        assert ("table" in parsed.tags) == ("\n|--" in text)


def test_write_page_failed_write_leaves_existing_page(tmp_path, monkeypatch):
    out = tmp_path / "new" / "report.html"
    assert page.write_page([report()], out) == out.stat().st_size
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    before = out.read_bytes()
    with pytest.raises(StorageError, match=r"cannot write .*report\.html: full; check the path"):
        page.write_page([report(name="other")], out)
    assert out.read_bytes() == before
    assert [path.name for path in out.parent.iterdir()] == ["report.html"]


def browse(path: Path, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    quiet = ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    profile = f"--user-data-dir={folder / 'profile'}"
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", *quiet, profile, *options, path.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium or google-chrome")
@pytest.mark.parametrize("width", [1200, 500])
def test_write_page_in_browser_shows_all_images(tmp_path, width):
    source = tmp_path / "page.html"
    page.write_page([report(), report(run_id="b" * 32, name="cdo-2")], source)
    shot = tmp_path / "shot.png"
    done = browse(
        source, tmp_path, "--enable-logging=stderr", f"--window-size={width},1500", "--hide-scrollbars", f"--screenshot={shot}"
    )
    assert "CONSOLE" not in done.stderr  # no error, no refused request
    pixels = np.asarray(Image.open(shot).convert("L"))
    assert pixels.shape[1] == width
    assert pixels.std() > 10

    # A copy that may run a script reports its own layout.
    policy = '<meta http-equiv="Content-Security-Policy"'
    script = """<script>onload = () => { document.body.dataset.layout = JSON.stringify({
        images: [...document.images].map(image => image.naturalWidth),
        headings: [...document.querySelectorAll("h1, h2, h3")].map(heading => heading.textContent),
        wide: document.documentElement.scrollWidth - document.documentElement.clientWidth }) }</script>"""
    copy = tmp_path / "copy.html"
    copy.write_text(re.sub(f"{policy}[^>]*>", "", source.read_text()).replace("</body>", f"{script}</body>"))
    parsed = Page(browse(copy, tmp_path, f"--window-size={width},1500", "--dump-dom").stdout).values_of("body", "data-layout")
    layout = json.loads(parsed[0])
    assert len(layout["images"]) == 8
    assert all(layout["images"])
    assert layout["headings"][:3] == ["2 runs compared", "Comparison", "cdo on tiles"]
    assert layout["wide"] == 0  # wide tables and images scroll by themselves


def labelled_run(run_id: str, labels: str, pixel_ap: float) -> RunReport:
    test = SplitReport({"pixel_ap": Estimate(pixel_ap, pixel_ap - 0.1, pixel_ap + 0.1)})
    return report(run_id=run_id, tags={**report().tags, "method": "semirest", "supervision": labels}, splits={"test": test})


@pytest.mark.slow
def test_render_annotation_figure_is_drawn_for_runs_with_different_labels():
    runs = [labelled_run("a", "none", 0.2), labelled_run("b", "boxes", 0.3), labelled_run("c", "masks", 0.4)]
    caption = "How well defects are located against the labels that a run learned from."
    assert any(caption in text for text in Page(page.render(runs)).values_of("img", "alt"))
    assert "labels to learn from boxes" in " ".join(Page(page.render(runs)).text.split())
    other_data = report(run_id="d", tags={**runs[0].tags, "data_fingerprint": "f" * 64}, splits=runs[2].splits)
    for others in ([runs[0], labelled_run("e", "none", 0.3)], [runs[0], other_data], runs[:1]):
        assert not any(caption in text for text in Page(page.render(others)).values_of("img", "alt"))
