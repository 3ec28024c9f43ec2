"""Connecting to Ray: what goes wrong is one line."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import ray.util.state

from adjobs.config.settings import Settings
from adjobs.errors import ClusterError
from adjobs.training.backends import ray as ray_backend
from adjobs.training.backends.ray import CLEANER, check_head, connected, remove_orphans
from adjobs.training.progress import LatestProgress
from adjobs.waits import announcing


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (None, r"^Ray: did not start on this machine \(The current node timed out\); try again when less is running here"),
        (
            "auto",
            r"^Ray at auto: refused \(The current node timed out\); check RAY_ADDRESS, RAY_AUTH_MODE and",
        ),
    ],
)
def test_connected_ray_that_does_not_start_is_one_line_and_sigterm_stays_ours(address, message, monkeypatch):
    def fail(**options: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise RuntimeError("The current node\ntimed out")

    monkeypatch.setattr(ray, "init", fail)
    before = signal.signal(signal.SIGTERM, lambda number, frame: None)
    try:
        handler = signal.getsignal(signal.SIGTERM)
        env = {} if address is None else {"RAY_ADDRESS": address}
        with pytest.raises(ClusterError, match=message), connected(Settings.from_env({"HOME": "/x", **env})):
            pass
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("address", ["127.0.0.1:9", "127.0.0.1:99999", "ray://127.0.0.1:70000"])
def test_connected_nothing_at_the_address_is_one_line(address):
    settings = Settings.from_env({"HOME": "/x", "RAY_ADDRESS": address})
    with pytest.raises(ClusterError, match=rf"^Ray at {address}: nothing listens there \(.*\); start it"), connected(settings):
        pass


def test_check_head_that_is_lost_is_named_and_one_that_listens_is_not(monkeypatch):
    address = "127.0.0.1:9"
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(gcs_address=address))
    with pytest.raises(ClusterError, match=r"^Ray at 127\.0\.0\.1:9: its head was lost; start it again \('adjobs up'\)$"):
        check_head(RuntimeError("actor unavailable"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        check_head(RuntimeError("actor unavailable"))


def test_remove_orphans_ends_what_a_killed_training_left_and_nothing_else(monkeypatch):
    program = [sys.executable, "-c", "import time; print('ready', flush=True); time.sleep(60)"]
    left, other = (subprocess.Popen([*program, name], stdout=subprocess.PIPE) for name in (f"ray::{CLEANER}", "another program"))
    for process in (left, other):
        assert process.stdout is not None
        process.stdout.readline()  # before its program runs, a process may have no arguments yet
    actors = [
        SimpleNamespace(job_id="01", node_id="here", pid=left.pid),
        SimpleNamespace(job_id="01", node_id="here", pid=other.pid),  # of another process by now
        SimpleNamespace(job_id="02", node_id="here", pid=os.getpid()),
        SimpleNamespace(job_id="01", node_id="there", pid=os.getpid()),
    ]
    jobs = [SimpleNamespace(job_id="01", status="FAILED"), SimpleNamespace(job_id="02", status="RUNNING")]
    monkeypatch.setattr(ray.util.state, "list_jobs", lambda **options: jobs)
    monkeypatch.setattr(ray.util.state, "list_placement_groups", lambda **options: [])
    monkeypatch.setattr(ray.util.state, "list_actors", lambda **options: actors)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "here"))
    try:
        remove_orphans()
        assert left.wait(10) == -signal.SIGKILL
        assert other.poll() is None
    finally:
        for process in (left, other):
            process.kill()
            process.communicate()


def test_progress_actor_shows_what_the_workers_wait_for_once(monkeypatch):
    state, shown, texts = LatestProgress(), threading.Event(), []

    def make(**options: Any) -> Any:
        names = ("get", "take_waits")
        actor = SimpleNamespace(**{name: SimpleNamespace(remote=getattr(state, name)) for name in names})
        return lambda body: SimpleNamespace(remote=lambda: actor)

    monkeypatch.setattr(ray_backend, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(ray, "remote", make)
    monkeypatch.setattr(ray, "kill", lambda actor: None)
    monkeypatch.setattr(ray, "get", lambda answers, timeout: answers)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "0" * 56))

    def announce(text: str) -> None:
        texts.append(text)
        if text == "storing the model":
            shown.set()

    with announcing(announce), ray_backend._progress_actor(lambda update: None):
        state.put_wait("drawing and storing figures")
        state.put_wait("storing the model")
        assert shown.wait(60)
        time.sleep(0.05)
    assert texts == ["drawing and storing figures", "storing the model"]
