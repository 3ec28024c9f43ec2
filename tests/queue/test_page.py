from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from fastapi.responses import HTMLResponse

from adjobs.queue.page import content_security_policy
from adjobs.queue.states import JobState
from tests.helpers.queue import RunningQueue
from tests.helpers.reporting import Page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[RunningQueue]:
    with RunningQueue(tmp_path) as queue:
        yield queue


def test_page_without_a_token_loads_nothing_from_other_servers(queue):
    with urlopen(f"{queue.url}/") as response:
        headers, source = response.headers, response.read().decode()
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"] == content_security_policy(source)
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert not re.search(r"""(?:src|href|url)\s*[=(]\s*["']?(?:https?:|//)""", source)
    assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|eval\(|\son\w+=|style=", source)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium or google-chrome")
def test_page_in_a_browser_shows_jobs_and_runs_nothing_that_others_wrote(queue, tmp_path):
    client = queue.client()
    (job,) = client.submit([queue.request(name="tiles")])
    claimed = queue.store.claim("one", 1, 3600)
    queue.store.move(claimed, JobState.RUNNING, "<img src=x onerror=document.title='broken'>")
    progress = {"stage": "distil", "done": 120, "total": 3000, "loss": 2.78, "images_per_s": 9.0, "seconds_left": 600.0}
    queue.store.note(claimed, run_id="4f" * 16, progress=progress)
    queue.cluster.log = "<script>document.title = 'broken'</script>"
    token = queue.token("eve")

    @queue.app.get("/enter")
    def enter(to: str = "") -> HTMLResponse:
        return HTMLResponse(f"<script>sessionStorage.setItem('token', '{token}'); location.replace('/#{to}')</script>")

    listed = browse(f"{queue.url}/enter", tmp_path)
    assert all(
        text in listed.text for text in ("tiles", "running", "ann", "train cdo", "distil 120/3000, loss 2.78, 10 min left")
    )
    shown = browse(f"{queue.url}/enter?to={job['id']}", tmp_path)
    assert f"http://mlflow:5000/#/runs/{'4f' * 16}" in shown.values_of("a", "href")
    assert "<img src=x onerror=document.title='broken'>" in shown.text
    assert "document.title = 'broken'" in shown.text
    assert shown.values_of("img", "src") == []


def browse(url: str, folder: Path) -> Page:
    """The page as it is after its first calls."""
    quiet = ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    profile = f"--user-data-dir={folder / 'profile'}"
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", *quiet, profile, "--virtual-time-budget=4000"]
    done = subprocess.run([*command, "--dump-dom", url], capture_output=True, text=True, timeout=120, check=True)
    return Page(re.sub(r"<script>.*?</script>", "", done.stdout, flags=re.DOTALL))
