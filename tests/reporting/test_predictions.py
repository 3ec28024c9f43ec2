"""The page of a folder of predictions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from adjobs.inference.truth import Truth
from adjobs.reporting.predictions import MAX_SHOWN, PredictionPage, TruthCounts
from tests.helpers.browser import CHROMIUM, running_browser
from tests.helpers.detectors import draw_image


def line(path: str, score: float, **more: object) -> dict:
    decision = "anomalous" if score >= 0.5 else "normal"
    return {"path": path, "score": score, "decision": decision, "threshold": 0.5, "overlay": f"out/{Path(path).stem}.png", **more}


def render(lines, truth=None) -> str:
    return PredictionPage("models:/line/3", 0.5, truth or {}).add_all(lines).render()


def sections(page: str) -> list[str]:
    return re.findall(r'<h2 id="section-\d+">([^<]*)<', page)


def test_page_without_labels_says_that_nothing_is_known():
    page = render([line("in/a.png", 0.9), line("in/b.png", 0.1)])
    assert sections(page) == ["Alarms", "No alarm"]
    assert "nothing says which decisions are right" in page
    assert "detected" not in page
    assert "Files are in in/" in page


def test_page_with_labels_has_the_mistakes_first_and_counts_them():
    truth = {"a.png": Truth(True, "scratch"), "b.png": Truth(True), "c.png": Truth(False), "d.png": Truth(False)}
    scores = {"a.png": 0.9, "b.png": 0.1, "c.png": 0.8, "d.png": 0.2, "e.png": 0.7}
    page = render([line(name, score) for name, score in scores.items()], truth)
    assert sections(page) == ["Missed", "False alarms", "Detected", "Alarms", "Normal, no alarm"]
    assert 'of 2 labelled anomalous</div><div class="value">1 detected' in page
    assert 'of 2 labelled normal</div><div class="value">1 false alarm' in page
    assert "label anomalous: scratch" in page


def test_page_of_many_images_is_bounded_and_has_the_highest_scores():
    page = render(line(f"{index}.png", index / 10_000) for index in range(5_000))
    assert page.count("<figure>") == MAX_SHOWN
    assert page.index("4999.png") < page.index("4900.png")
    assert "4899.png" not in page
    assert "100 of 5000, those with the highest scores" in page
    assert len(page) < 200_000


def test_page_names_are_escaped_and_quoted():
    page = render([line("x/<b>&amp; 100%#?.png", 0.9), line("x/\udcff.png", 0.9)])
    assert "<b>" not in page.replace("<body>", "")
    assert 'src="./%3Cb%3E%26amp%3B%20100%25%23%3F.png"' in page
    assert 'src="./%FF.png"' in page


def test_page_failures_and_warnings_are_shown():
    page = render([{"path": "a.png", "error": "a.png: is not <an> image"}, line("b.png", 0.1, warning="12 bits, not 8")])
    assert "a.png: is not &lt;an&gt; image" in page
    assert "12 bits, not 8" in page
    assert "1 image differs in bit depth" in page


def test_page_without_overlays_has_captions_alone():
    page = render([line("b.png", 0.1, overlay=None)])
    assert "<img" not in page
    assert "b.png" in page


def test_truth_counts_in_words():
    assert TruthCounts().sentence() == ""
    assert TruthCounts(1, 1, 0, 0).sentence() == "of 1 image with a label: 1 of 1 anomalous ones detected"


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_page_opened_from_disk_shows_its_images_and_requests_nothing_else(tmp_path):
    names = ["a.png", "100% #1?.png"]
    for name in names:
        draw_image(tmp_path, name, (10, 10, 60, 60))
    (tmp_path / "index.html").write_text(render([line(name, 0.9, overlay=f"elsewhere/{name}") for name in names]))
    with running_browser() as browser:
        tab = browser.open((tmp_path / "index.html").as_uri())
        tab.wait(
            "document.images.length === 2 && [...document.images].every(image => image.complete && image.naturalWidth === 160)"
        )
        assert all(address.startswith(tmp_path.as_uri()) for address in tab.requests())
        assert tab.problems() == []
