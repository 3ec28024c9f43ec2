from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from adjobs.web.key_file import digest
from adjobs.web.page import content_security_policy
from tests.helpers.browser import CHROMIUM, Browser, Tab, running_browser
from tests.helpers.detectors import brightness_detector
from tests.helpers.serving import HeldDetector, RunningDetector, write_image

in_a_browser = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs chromium or google-chrome")]
KEY = "k" * 40


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def server() -> Iterator[RunningDetector]:
    with RunningDetector() as server:
        yield server.load()


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_load_nothing_from_other_servers(server, path):
    answer = server.get(path)
    assert answer.headers["Content-Security-Policy"] == content_security_policy(answer.text)
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert not re.search(r"""(?:src|href|url)\s*[=(]\s*["']?(?:https?:|//)""", answer.text)
    assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|eval\(|\son\w+=|style=", answer.text)


class TestInABrowser:
    pytestmark = in_a_browser

    def test_image_is_shown_with_decision_regions_and_anomaly_map(self, server, browser, tmp_path):
        tab = browser.open(f"{server.url}/")
        tab.wait_for_text("tiles version 1")
        choose(tab, write_image(tmp_path, brightness=255))
        tab.wait_for_text("score 1, threshold 0.8")
        text = tab.text()
        assert "anomalous" in text
        assert "160 × 96 pixels" in text
        assert cells(tab) == ["1", "40", "31", "40", "17"]
        tab.wait("document.querySelector('.image img').naturalWidth === 768")  # the image and its map, 384 pixels wide each
        box = tab.evaluate("(() => { const b = document.querySelector('.boxes span').style; return [b.left, b.width]; })()")
        assert box == ["25%", "25%"]
        assert tab.evaluate("document.querySelector('#status').textContent") == "cell.png: anomalous, score 1, 1 region"
        choose(tab, write_image(tmp_path, "other.png", brightness=100))
        tab.wait("[...document.querySelectorAll('article')].map(a => a.className).join() === 'normal,anomalous'")
        assert [url for url in tab.requests() if not url.startswith((server.url, "data:"))] == []
        assert tab.problems() == []
        tab.close()

    def test_page_with_the_keyboard_chooses_and_marks_a_region(self, server, browser, tmp_path):
        tab = browser.open(f"{server.url}/")
        tab.wait("document.activeElement?.id === 'files'")
        choose(tab, write_image(tmp_path, brightness=255))
        tab.wait_for_text("Regions, in pixels")
        tab.press("Tab")
        assert tab.evaluate("document.activeElement.tagName") == "TR"
        assert tab.evaluate("document.querySelector('.boxes span').className") == "chosen"
        tab.close()

    def test_file_that_is_no_image_is_shown_as_refused_with_its_name_as_text(self, server, browser, tmp_path):
        path = tmp_path / "<img src=x onerror=document.title='broken'>.png"
        path.write_bytes(b"no image")
        tab = browser.open(f"{server.url}/")
        tab.wait_for_text("tiles version 1")
        choose(tab, path)
        tab.wait_for_text("not predicted")
        tab.wait_for_text("The image is not a supported image")
        assert path.name in tab.text()
        assert tab.evaluate("document.title") == "adjobs detector"
        tab.close()

    def test_key_is_requested_and_the_image_is_then_predicted(self, browser, tmp_path):
        with RunningDetector(keys=[digest(KEY)]) as server:
            server.load()
            tab = browser.open(f"{server.url}/")
            tab.wait_for_text("tiles version 1")
            choose(tab, write_image(tmp_path))
            tab.wait_for_text("This server answers only with one of its keys")
            tab.type("wrong")
            tab.press("Enter")
            tab.wait_for_text("the key is not one of this server")
            tab.type(KEY)
            tab.press("Enter")
            tab.wait_for_text("normal")
            tab.click("#leave")
            tab.wait("!document.querySelector('article') && !sessionStorage.getItem('key')")
            tab.close()

    def test_method_without_anomaly_maps_shows_the_image_alone(self, browser, tmp_path):
        with RunningDetector(lambda model: HeldDetector(brightness_detector(gives_map=False, pixel=None))) as server:
            server.load()
            tab = browser.open(f"{server.url}/")
            tab.wait_for_text("tiles version 1")
            choose(tab, write_image(tmp_path, brightness=255))
            tab.wait_for_text("anomalous")
            tab.wait("document.querySelector('.cut img').naturalWidth === 384")
            assert tab.evaluate("document.querySelectorAll('figure').length") == 1
            tab.close()

    def test_page_waits_for_a_model_that_is_being_loaded(self, browser, tmp_path):
        with RunningDetector() as server:
            tab = browser.open(f"{server.url}/")
            tab.wait_for_text("the model is being loaded")
            server.load()
            choose(tab, write_image(tmp_path))
            tab.wait_for_text("score")
            tab.close()

    def test_page_is_readable_in_the_dark_and_on_a_phone(self, server, browser, tmp_path):
        tab = browser.open(f"{server.url}/", width=390, height=800)
        tab.set_dark(True)
        tab.wait_for_text("tiles version 1")
        choose(tab, write_image(tmp_path, brightness=255))
        tab.wait_for_text("score")
        assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 24, 28)"
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390
        tab.close()

    def test_interface_page_lists_all_endpoints(self, server, browser):
        tab = browser.open(f"{server.url}/docs")
        tab.wait_for_text("POST /v1/predict")
        assert "POST /v2/models/{name}/infer" in tab.text()
        assert tab.problems() == []
        tab.close()


def choose(tab: Tab, path: Path) -> None:
    """Choose a file, as the dialog of the browser does."""
    document = tab.call("DOM.getDocument")["root"]["nodeId"]
    node = tab.call("DOM.querySelector", nodeId=document, selector="#files")["nodeId"]
    tab.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])


def cells(tab: Tab) -> list[str]:
    value = tab.evaluate("[...document.querySelectorAll('td')].map(cell => cell.textContent)")
    return list(value)
