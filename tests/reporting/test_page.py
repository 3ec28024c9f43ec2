"""The page: what it says of a run, that nothing from outside gets in, and that it needs nothing from outside."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from adjobs import methods
from adjobs.data.splits.assignment import SplitAssignment
from adjobs.errors import StorageError
from adjobs.metrics.intervals import Estimate
from adjobs.metrics.threshold import choose, describe
from adjobs.reporting import page
from adjobs.reporting.report import Group, Part, RunReport
from adjobs.tracking.run import url
from tests.helpers.reporting import THRESHOLD, Page, png, report, row, shown

EVIL = "<script>alert(1)</script>\"'&"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def test_a_finished_run_is_told_in_full():
    text = " ".join(shown().text.split())
    for expected in (
        "cdo on tiles",
        "Collaborative Discrepancy Optimization, trained on s3://factory/tiles",
        "experiment line 3",
        "started 2026-11-22 14:03 UTC",
        "took 2 min 30 s",
        "commit b695732",
        "Split by protocol holdout , seed 5. Images: 1 for training, 1 for validation, 2 for the test.",
        "good/9.png truncated ends early; copy it again",
        "the whole data set few has 12 good images",
        "Card of cdo",
        describe(THRESHOLD),
        "bad/3.png",
    ):
        assert expected in text


def test_measures_stand_with_their_intervals_and_undefined_ones_with_the_reason():
    found = shown()
    assert row(found, "Measures").startswith(
        "Measures test validation image AUROC 0.912 0.880 to 0.940 0.800 pixel AP not defined: no masks –"
    )
    assert "crack 7 0.429 0.100 to 0.800" in row(found, "Defect types")
    assert "small (below 0.1 % of the image) 0.500 0.250 to 0.750" in row(found, "Sizes of defect regions")


def test_images_are_counted_by_label_and_type():
    assert row(shown(), "images training validation test").startswith(
        "images training validation test normal 1 0 1 anomalous 0 0 7 crack 0 7"
    )


def test_all_figures_are_inside_with_their_size_and_words_for_those_who_cannot_see_them():
    found = shown()
    sources = found.of("img", "src")
    assert len(sources) == 4  # the course of the training was drawn from its history
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert all(found.of("img", "alt"))
    assert found.of("img", "width")[0] == str(round(40 * 108 / 150))


def test_the_page_needs_nothing_from_outside():
    card = "![x](http://evil/x.png) [out](https://doi.org/1) [in](javascript:alert(1)) <img src=http://evil/y.png>"
    found = shown(report(card=card, link="http://127.0.0.1:5000/#/experiments/1"))
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & set(found.tags)
    assert not [name for _, name, _ in found.attributes if name.startswith("on") or name in ("srcset", "background", "action")]
    assert all(source.startswith("data:") for tag, name, source in found.attributes if name == "src")
    assert set(found.of("a", "href")) == {"https://doi.org/1", "http://127.0.0.1:5000/#/experiments/1"}
    source = page.render([report()])
    assert "url(" not in source
    assert "@import" not in source
    assert "default-src 'none'" in source


def test_names_from_outside_are_shown_and_not_obeyed():
    estimate = Estimate(0.5, reason=EVIL)
    hostile = report(
        run_id=EVIL,
        name=EVIL,
        experiment=EVIL,
        status=EVIL,
        link=None,
        tags=dict.fromkeys(("method", "version", "git_commit", "error", "preset", "model", "metrics_version"), EVIL),
        job=EVIL,
        split=SplitAssignment(EVIL, 0, (EVIL,), (), (EVIL,)),
        data={"uri": EVIL, "format": EVIL, "fingerprint": EVIL, "counts": {f"train/{EVIL}": 3}},
        parts={"test": Part({EVIL: estimate, "x": Estimate(None, reason=EVIL)}, {EVIL: Group(1, {EVIL: estimate})})},
        thresholds={"image": {"policy": EVIL, "value": 1.0}, "history": [{"time": EVIL, "by": EVIL, "level": EVIL, "new": {}}]},
        excluded=({"sample": EVIL, "kind": EVIL, "message": EVIL},),
        figures={EVIL: png()},
        card=f"# {EVIL}\n\n`{EVIL}` {EVIL}",
    )
    for found in (shown(hostile), shown(hostile, report())):
        assert not {"script"} & set(found.tags)
        assert found.text.count("alert(1)") > 20
        # Quotes cannot end an attribute.
        allowed = {"class", "scope", "colspan", "src", "style", "width", "height", "alt", "href", "id", "open", "lang", "charset"}
        assert {name for _, name, _ in found.attributes} <= allowed | {"name", "content", "http-equiv"}


def test_a_run_that_left_nothing_says_so_in_every_section():
    bare = RunReport(
        "b" * 32, "cdo-x", "e", "FAILED", tags={"method": "gone", "error": "storage 's3://x': full; make room"}, job=None
    )
    text = " ".join(shown(bare).text.split())
    for expected in (
        "FAILED",
        "storage 's3://x': full; make room",
        "The run has no measures",
        "The run has no threshold",
        "The run has no galleries",
        "The run has no figures of its test images",
        "The run recorded no round",
        "The run recorded no data",
        "The run recorded no split",
        "The run recorded no job",
        "This adjobs has no card of the method",
    ):
        assert expected in text


def test_several_runs_are_compared_at_the_top():
    failed = RunReport("c" * 32, "cdo-failed", "e", "FAILED", tags={"method": "cdo"})
    found = shown(report(), report(run_id="b" * 32, name="cdo-2"), failed)
    assert row(found, "Comparison").startswith(
        "Comparison test images run image AUROC cdo-tiles run aaaaaaaa data 9f86d081 0.912 0.880 to 0.940 cdo-2 run bbbbbbbb"
    )
    assert "cdo-failed run cccccccc, FAILED –" in row(found, "cdo-failed")
    assert [f"#{target}" for target in found.of("article", "id")] == found.of("a", "href")
    assert "different" not in found.text


@pytest.mark.parametrize(
    ("changes", "caution"),
    [
        ({"data": {"fingerprint": "other"}, "tags": {"method": "cdo", "data_fingerprint": "x"}}, "saw different data"),
        ({"split": SplitAssignment("holdout", 1, (), (), ("good/0.png",))}, "tested on different images"),
        ({"tags": {"method": "cdo", "metrics_version": "2"}}, "different versions of their definitions"),
    ],
)
def test_what_cannot_be_compared_is_said(changes, caution):
    assert caution in shown(report(), report(run_id="b" * 32, **changes)).text


def test_changes_of_the_threshold_are_told():
    new = choose("fixed", [0, 1], [0.0, 1.0], value=0.25)
    change = {
        "time": "2026-11-23T08:12:44+00:00",
        "by": "mia",
        "level": "image",
        "old": THRESHOLD.to_dict(),
        "new": new.to_dict(),
    }
    text = row(shown(report(thresholds={"image": new.to_dict(), "history": [change]})), "Changed since the training: 1")
    assert f"2026-11-23 08:12 mia images {THRESHOLD.value:.6g} 0.25 {describe(new)}" in text


@pytest.mark.parametrize(("level", "told"), [("image", True), ("pixel", False)])
def test_galleries_are_of_another_threshold_only_after_a_change_for_images(level, told):
    change = {"time": "2026-11-23T08:12:44+00:00", "by": "mia", "level": level, "old": None, "new": {"policy": "x", "value": 1}}
    text = shown(report(thresholds={"image": THRESHOLD.to_dict(), "history": [change]})).text
    assert ("Chosen at the threshold of the training, which has changed since." in text) == told


def test_the_link_to_mlflow_holds_no_password(monkeypatch):
    client = SimpleNamespace(get_run=lambda _: SimpleNamespace(info=SimpleNamespace(experiment_id="7")))
    monkeypatch.setattr("adjobs.tracking.run.connect", lambda _: client)
    assert url("https://mia:secret@host:5000/", "abc") == "https://host:5000/#/experiments/7/runs/abc"
    assert url("http://host", "abc") == "http://host/#/experiments/7/runs/abc"


def test_a_threshold_of_an_unknown_kind_is_shown_without_a_promise():
    assert "Policy quantile." in shown(report(thresholds={"image": {"policy": "quantile", "value": 3.5}})).text


def test_cards_of_all_methods_are_shown_as_they_are_meant():
    for name in methods.names():
        text = (Path(methods.__file__).parent / name / "README.md").read_text()
        found = Page(page.markdown(text))
        assert not {"h1", "h2", "h3", "script"} & set(found.tags)
        assert ("table" in found.tags) == ("\n|--" in text)


def test_an_older_page_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    out = tmp_path / "new" / "report.html"
    assert page.write([report()], out) == out.stat().st_size
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    before = out.read_bytes()
    with pytest.raises(StorageError, match=r"cannot write .*report\.html: full; check the path"):
        page.write([report(name="other")], out)
    assert out.read_bytes() == before
    assert [path.name for path in out.parent.iterdir()] == ["report.html"]


def browse(path: Path, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    quiet = ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    profile = f"--user-data-dir={folder / 'profile'}"
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", *quiet, profile, *more, path.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium or google-chrome")
@pytest.mark.parametrize("width", [1200, 500])
def test_a_browser_shows_the_page_with_all_its_pictures(tmp_path, width):
    source = tmp_path / "page.html"
    page.write([report(), report(run_id="b" * 32, name="cdo-2")], source)
    shot = tmp_path / "shot.png"
    done = browse(
        source, tmp_path, "--enable-logging=stderr", f"--window-size={width},1500", "--hide-scrollbars", f"--screenshot={shot}"
    )
    assert "CONSOLE" not in done.stderr  # no error, no refused request
    pixels = np.asarray(Image.open(shot).convert("L"))
    assert pixels.shape[1] == width
    assert pixels.std() > 10

    # A copy that may run a script measures itself.
    policy = '<meta http-equiv="Content-Security-Policy"'
    script = """<script>onload = () => { document.body.dataset.found = JSON.stringify({
        images: [...document.images].map(image => image.naturalWidth),
        headings: [...document.querySelectorAll("h1, h2, h3")].map(heading => heading.textContent),
        wide: document.documentElement.scrollWidth - document.documentElement.clientWidth }) }</script>"""
    measured = tmp_path / "measured.html"
    measured.write_text(re.sub(f"{policy}[^>]*>", "", source.read_text()).replace("</body>", f"{script}</body>"))
    found = Page(browse(measured, tmp_path, f"--window-size={width},1500", "--dump-dom").stdout).of("body", "data-found")
    facts = json.loads(found[0])
    assert len(facts["images"]) == 8
    assert all(facts["images"])
    assert facts["headings"][:3] == ["2 runs compared", "Comparison", "cdo on tiles"]
    assert facts["wide"] == 0  # wide tables and pictures scroll by themselves


def labelled(run_id: str, labels: str, pixel_ap: float) -> RunReport:
    part = Part({"pixel_ap": Estimate(pixel_ap, pixel_ap - 0.1, pixel_ap + 0.1)})
    return report(run_id=run_id, tags={**report().tags, "method": "semirest", "supervision": labels}, parts={"test": part})


def test_what_labels_are_worth_is_drawn_where_runs_learnt_from_different_ones():
    runs = [labelled("a", "none", 0.2), labelled("b", "boxes", 0.3), labelled("c", "masks", 0.4)]
    caption = "How well defects are located against the labels that a run learnt from."
    assert any(caption in text for text in Page(page.render(runs)).of("img", "alt"))
    assert "labels to learn from boxes" in " ".join(Page(page.render(runs)).text.split())
    other_data = report(run_id="d", tags={**runs[0].tags, "data_fingerprint": "f" * 64}, parts=runs[2].parts)
    for others in ([runs[0], labelled("e", "none", 0.3)], [runs[0], other_data], runs[:1]):
        assert not any(caption in text for text in Page(page.render(others)).of("img", "alt"))
