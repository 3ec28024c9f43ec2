from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from adjobs.queue.ray_jobs import ForeignJob, RayStatus
from adjobs.queue.records import NewJob
from adjobs.queue.states import JobState
from adjobs.queue.tokens import Role
from adjobs.web.page import content_security_policy
from tests.helpers.browser import CHROMIUM, Browser, Tab, running_browser
from tests.helpers.queue import RunningQueue
from tests.helpers.schedules import empty_dataset, retraining

in_a_browser = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs chromium or google-chrome")]
HOSTILE = "<img src=x onerror=document.title='broken'>"
DOCUMENT = {"method": "cdo", "data": {"uri": "s3://factory/tiles"}}


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[RunningQueue]:
    with RunningQueue(tmp_path) as queue:
        yield queue


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as browser:
        yield browser


def test_page_without_a_token_loads_nothing_from_other_servers(queue):
    with urlopen(f"{queue.url}/") as response:
        headers, source = response.headers, response.read().decode()
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"] == content_security_policy(source)
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert not re.search(r"""(?:src|href|url)\s*[=(]\s*["']?(?:https?:|//)""", source)
    assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|eval\(|\son\w+=|style=", source)


class TestInABrowser:
    pytestmark = in_a_browser

    def test_token_is_required_checked_and_forgotten_with_the_tab(self, queue, browser):
        add(queue, "tiles")
        tab = browser.open(f"{queue.url}/")
        tab.wait_for_text("Token")
        assert tab.requests() == [f"{queue.url}/"]  # nothing is asked for without one
        tab.type("adj_wrong")
        tab.press("Enter")
        tab.wait_for_text("the token is unknown or revoked")
        tab.type(queue.token("eve", Role.VIEWER))
        tab.click("#login button")
        tab.wait_for_text("tiles")
        assert "eve (viewer)" in tab.text()
        assert "unknown or revoked" not in tab.text()
        tab.call("Page.reload")
        tab.wait_for_text("tiles")
        tab.close()
        tab = browser.open(f"{queue.url}/")
        tab.wait_for_text("Token")
        enter(tab, queue.token())
        tab.wait_for_text("tiles")
        tab.click("#leave")
        tab.wait_for_text("Token")
        assert "tiles" not in tab.evaluate("document.body.textContent.replace(document.scripts[0].textContent, '')")
        assert tab.problems() == []
        tab.close()

    def test_list_shows_progress_in_order_and_filters(self, queue, browser):
        done = add(queue, "solder", JobState.RUNNING, JobState.DONE)
        running = add(queue, "tiles", JobState.RUNNING)
        progress = {"stage": "distil", "done": 120, "total": 3000, "loss": 2.78, "images_per_s": 9.0, "seconds_left": 600.0}
        queue.store.note(queue.store.get(running), progress=progress)
        first, second = add(queue, "welds"), add(queue, "caps", user="bob")
        tab = opened(queue, browser)
        tab.wait_for_text("distil 120/3000, loss 2.78, 10 min left")
        assert ids(tab) == [running, first, second, done]
        assert "queued 2" in tab.text()
        assert tab.evaluate("document.querySelector('#jobs progress').value") == 120
        assert tab.evaluate("[...document.querySelectorAll('#states button')].map(b => b.textContent).join()") == (
            "all 4,waiting 2,running 1,done 1,failed 0,stopped 0"
        )
        tab.click("#states button:nth-child(4)")
        tab.wait(f"document.querySelectorAll('#jobs tr').length === 1 && document.querySelector('#jobs a').hash === '#{done}'")
        tab.click("#states button:nth-child(5)")
        tab.wait_for_text("No such jobs.")
        tab.click("#states button:nth-child(1)")
        tab.wait("document.querySelectorAll('#jobs tr').length === 4")
        tab.click("#search")
        tab.type("BOB")
        tab.wait("document.querySelectorAll('#jobs tr').length === 1")
        assert ids(tab) == [second]
        assert tab.problems() == []
        tab.close()

    def test_list_as_it_changes_keeps_the_focus(self, queue, browser):
        job = add(queue, "tiles")
        tab = opened(queue, browser)
        tab.wait_for_text("tiles")
        tab.evaluate("document.querySelector('#jobs a').focus()")
        add(queue, "welds", JobState.RUNNING)
        tab.evaluate("refresh()")
        tab.wait_for_text("welds")
        assert tab.evaluate("document.activeElement.hash") == f"#{job}"
        assert len(ids(tab)) == 2
        tab.close()

    def test_job_with_the_keyboard_shows_its_history_and_run(self, queue, browser):
        job = add(queue, "tiles", JobState.RUNNING, reason=HOSTILE)
        queue.store.note(queue.store.get(job), run_id="4f" * 16)
        tab = opened(queue, browser)
        tab.wait_for_text("tiles")
        tab.evaluate("document.querySelector('#foreign').focus()")
        tab.press("Tab")
        tab.press("Enter")
        tab.wait_for_text("History")
        tab.wait("document.activeElement.id === 'title'")
        assert tab.evaluate("[...document.querySelectorAll('#history tr')].map(r => r.children[1].textContent).join()") == (
            "queued,starting,running"
        )
        assert (
            tab.evaluate("document.querySelector('#facts a').href")
            == f"http://mlflow:5000/#/experiments/0/runs/{'4f' * 16}?workflowType=machine_learning"
        )
        assert tab.evaluate("document.title") == "tiles: running – adjobs queue"
        tab.evaluate("document.querySelector('details').open = true")
        tab.wait_for_text('"uri": "s3://factory/tiles"')
        tab.evaluate("history.back()")
        tab.wait(f"document.activeElement.hash === '#{job}'")
        tab.close()

    def test_text_that_others_wrote_is_shown_as_text(self, queue, browser):
        job = add(queue, HOSTILE, JobState.RUNNING, reason=HOSTILE)
        progress = {"stage": HOSTILE, "done": 1, "total": 2, "loss": None, "images_per_s": None, "seconds_left": None}
        queue.store.note(queue.store.get(job), progress=progress)
        queue.cluster.log = "<script>document.title = 'broken'</script>"
        queue.cluster.foreign = [ForeignJob("raysubmit_1", RayStatus.RUNNING, HOSTILE, HOSTILE, 1.0, None)]
        tab = opened(queue, browser)
        tab.wait_for_text(HOSTILE)
        tab.click("#foreign")
        tab.wait_for_text("raysubmit_1")
        assert tab.text().count(HOSTILE) == 4  # its name, its progress, and the other's name and message
        tab.click("#jobs a")
        tab.wait_for_text("<script>document.title")
        assert tab.evaluate("document.title") == f"{HOSTILE}: running – adjobs queue"
        assert tab.evaluate("document.images.length + document.scripts.length") == 1
        assert tab.problems() == []
        assert {url.split("/")[2] for url in tab.requests()} == {queue.url.split("/")[2]}
        assert tab.evaluate("fetch('http://127.0.0.1:1/').then(() => 'sent', () => 'refused')") == "refused"
        assert any("Content Security Policy" in problem for problem in tab.problems())
        tab.close()

    def test_schedules_are_shown_with_their_next_time_and_last_job(self, queue, browser, tmp_path):
        tab = opened(queue, browser)
        tab.wait_for_text("No jobs.")
        assert tab.evaluate("at('scheduled').hidden")
        schedule = {"document": retraining(empty_dataset(tmp_path / "set")), "cron": "30 2 * * *", "time_zone": "Europe/Berlin"}
        for name in ("nightly", "weekly"):
            queue.client("ann").save_schedule({"name": name, **schedule})
        queue.client("ann").pause_schedule("weekly")
        job = queue.client("ann").run_schedule("nightly")["id"]
        tab.evaluate("refresh()")
        tab.wait("at('schedules').children.length === 2 && !at('scheduled').hidden")
        rows = tab.evaluate("[...at('schedules').children].map(row => row.innerText)")
        assert "30 2 * * *" in rows[0]
        assert "Europe/Berlin" in rows[0]
        assert "queued" in rows[0]
        assert "paused" not in rows[0]
        assert "paused" in rows[1]
        assert "1970" not in "".join(rows)
        tab.click("#schedules a")
        tab.wait_for_text("← all jobs")
        assert tab.evaluate("location.hash") == f"#{job}"
        assert tab.problems() == []
        tab.close()

    def test_log_follows_its_end_until_somebody_scrolls_up(self, queue, browser):
        job = add(queue, "tiles", JobState.RUNNING)
        queue.cluster.log = "".join(f"step {n}\n" for n in range(200))
        tab = opened(queue, browser, job)
        tab.wait_for_text("step 199")
        assert at_end(tab)
        queue.cluster.log += "\x1b[36mstep 200\x1b[0m\n"
        tab.evaluate("refresh()")
        tab.wait_for_text("step 200\n")
        assert at_end(tab)
        tab.evaluate("at('log').scrollTop = 40")
        tab.wait("!at('paused').hidden")
        queue.cluster.log += "step 201\n"
        tab.evaluate("refresh()")
        tab.wait_for_text("step 201")
        assert tab.evaluate("at('log').scrollTop") == 40
        tab.click("#follow")
        tab.wait("at('paused').hidden")
        assert at_end(tab)
        queue.cluster.log += "x" * 30_000 + "\nstep 202\n"
        tab.evaluate("refresh()")
        tab.wait_for_text("step 202")
        assert re.search(rf"the last \d+ of {len(queue.cluster.log)} characters", tab.text())
        assert at_end(tab)
        assert tab.evaluate("at('log').textContent.length") <= 40_000
        tab.close()

    def test_stop_and_resume_ask_before_they_do_it(self, queue, browser):
        job = add(queue, "tiles")
        tab = opened(queue, browser, job)
        tab.wait("document.querySelector('#stop')?.offsetHeight")
        tab.click("#stop")
        tab.wait_for_text("Stop job tiles?")
        tab.press("Escape")
        tab.wait("!at('question').open")
        tab.click("#stop")
        tab.click("#no")
        tab.wait("!at('question').open")
        assert queue.store.get(job).state is JobState.QUEUED
        tab.click("#stop")
        tab.click("#yes")
        tab.wait("!at('resume').hidden")
        assert queue.store.get(job).state is JobState.STOPPED
        assert tab.evaluate("at('stop').hidden")
        tab.click("#resume")
        tab.wait_for_text("Queue job tiles again?")
        tab.click("#yes")
        tab.wait("!at('stop').hidden")
        assert queue.store.get(job).state is JobState.QUEUED
        assert tab.problems() == []
        tab.close()

    def test_stop_of_anothers_job_is_not_offered(self, queue, browser):
        job = add(queue, "tiles")
        tab = opened(queue, browser, job, queue.token("bob", Role.SUBMITTER))
        tab.wait_for_text("Nothing yet.")
        assert tab.evaluate("at('stop').hidden && at('resume').hidden")
        tab.close()

    def test_queue_that_does_not_answer_is_reported_until_it_does(self, queue, browser):
        job = add(queue, "tiles")
        tab = opened(queue, browser)
        tab.wait_for_text("tiles")
        tab.call("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=-1, uploadThroughput=-1)
        tab.evaluate("refresh()")
        tab.wait_for_text("the queue does not answer")
        assert ids(tab) == [job]
        tab.call("Network.emulateNetworkConditions", offline=False, latency=0, downloadThroughput=-1, uploadThroughput=-1)
        tab.wait("at('error').hidden")
        tab.evaluate("location.hash = 'ffffffffffff'")
        tab.wait_for_text("no such job")
        assert "History" not in tab.text()
        tab.close()

    def test_list_of_a_thousand_jobs_is_quick_and_fits_a_phone(self, queue, browser):
        spec = {"verb": "train", "document": DOCUMENT}
        queue.store.submit(
            *(NewJob(str(n), spec, "ann", f"job number {n} with a-very-long-name-{'x' * 60}") for n in range(1001))
        )
        tab = opened(queue, browser)
        tab.wait_for_text("The latest 1000 of them")
        started_at = time.perf_counter()
        tab.evaluate("refresh()")
        assert time.perf_counter() - started_at < 5
        assert len(ids(tab)) == 1000
        for width in (360, 768, 1400):
            tab.resize(width, 700)
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
        tab.resize(360, 700)
        assert tab.evaluate("[...document.querySelectorAll('#jobs tr')].slice(0, 9).every(r => r.scrollWidth <= 360)")
        tab.close()

    def test_text_stands_out_from_its_ground_in_light_and_dark(self, queue, browser):
        add(queue, "tiles", JobState.RUNNING, JobState.FAILED)
        tab = opened(queue, browser)
        tab.wait_for_text("tiles")
        for dark in (False, True):
            tab.set_dark(dark)
            grounds = tab.evaluate("getComputedStyle(document.body).backgroundColor")
            for selector in ("#jobs a", ".state", "small", "th", "body"):
                color = tab.evaluate(f"getComputedStyle(document.querySelector('{selector}')).color")
                assert contrast(color, grounds) >= 4.5, (dark, selector)  # WCAG AA
        tab.close()


def add(queue: RunningQueue, name: str, *states: JobState, user: str = "ann", reason: str = "") -> str:
    """A job of the store that goes through some states."""
    (submission,) = queue.store.submit(NewJob(f"{name} {states}", {"verb": "train", "document": DOCUMENT}, user, name))
    if states:
        queue.store.claim("one", 9, 3600)
    for state in states:
        queue.store.move(queue.store.get(submission.id), state, reason)
    return submission.id


def enter(tab: Tab, token: str) -> None:
    tab.wait("document.activeElement?.id === 'token'")
    tab.type(token)
    tab.press("Enter")


def opened(queue: RunningQueue, browser: Browser, job: str = "", token: str = "") -> Tab:
    """The page with an administrator's token, or another one."""
    tab = browser.open(f"{queue.url}/#{job}")
    enter(tab, token or queue.token("eve"))
    return tab


def ids(tab: Tab) -> list[str]:
    return tab.evaluate("[...document.querySelectorAll('#jobs a')].map(link => link.hash.slice(1))")


def at_end(tab: Tab) -> bool:
    return tab.evaluate("at('log').scrollHeight - at('log').scrollTop - at('log').clientHeight < 2 && at('log').scrollTop > 0")


def contrast(one: str, other: str) -> float:
    """The ratio of luminances of two colours, as WCAG 2 defines it."""

    def luminance(color: str) -> float:
        channels = [int(digits) / 255 for digits in re.findall(r"\d+", color)[:3]]
        red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in channels)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)
