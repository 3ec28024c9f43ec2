"""Models that are put in force while requests come."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from adjobs.errors import StorageError, TrackingError
from adjobs.serving import following
from adjobs.serving.limits import Limits
from tests.helpers.detectors import brightness_detector
from tests.helpers.serving import HeldDetector, RunningDetector, draw_png, wait_until


class Registry:
    """A registry and detectors of its versions, whose thresholds are version / 10."""

    def __init__(self) -> None:
        self.champion, self.is_down, self.damaged, self.loads = 1, False, set(), []  # type: ignore[var-annotated]
        self.detectors: dict[int, Any] = {}

    def resolve(self) -> str:
        if self.is_down:
            raise TrackingError("MLflow at http://mlflow:5000: no answer")
        return f"models:/tiles/{self.champion}"

    def load(self, pinned: str) -> Any:
        version = int(pinned.rpartition("/")[2])
        self.loads.append(version)
        if version in self.damaged:
            raise StorageError("detector /home/ann/models: weights.safetensors: damaged; log the model again")
        detector = HeldDetector(brightness_detector(image=version / 10))
        self.detectors[version] = detector
        return detector


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def server(registry):
    with RunningDetector(registry.load, "models:/tiles@champion", limits=Limits(max_queue=500)) as server:
        server.source.resolve = registry.resolve  # type: ignore[method-assign]
        yield server.load()


def version_of(server: RunningDetector) -> int:
    answer = server.post(draw_png()).json()
    assert answer["predictions"][0]["threshold"] == answer["model"]["threshold"] == answer["model"]["version"] / 10
    return int(answer["model"]["version"])


def test_alias_that_is_moved_is_followed(server, registry):
    assert version_of(server) == 1
    registry.champion = 2
    server.service.model.check()
    assert version_of(server) == 2
    state = server.get("/readyz").json()
    assert (state["model"], state["following"]["alias"], state["following"]["error"]) == ("tiles version 2", "champion", None)
    server.service.model.check()
    assert registry.loads == [1, 2]
    text = server.service.metrics.exposition().decode()
    assert text.count("adjobs_serving_model_info{") == 1


def test_request_that_started_before_keeps_its_model_and_the_old_one_is_then_freed(server, registry):
    old = registry.detectors.pop(1)
    old.may_predict.clear()
    with ThreadPoolExecutor(1) as pool:
        before = pool.submit(server.post, draw_png(), draw_png())
        wait_until(lambda: server.metric("queue_images") == 2)
        registry.champion = 2
        server.service.model.check()
        threading.Timer(0.2, old.may_predict.set).start()
        assert version_of(server) == 2
        answer = before.result().json()
    assert answer["model"]["version"] == 1
    assert {prediction["threshold"] for prediction in answer["predictions"]} == {0.1}
    freed = weakref.ref(old)
    del old
    wait_until(lambda: gc.collect() is not None and freed() is None)


def test_no_request_fails_while_the_champion_is_moved_again_and_again(server, registry):
    stop, outcomes = threading.Event(), []

    def ask() -> None:
        while not stop.is_set():
            outcomes.append(version_of(server))

    with ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(ask) for _ in range(4)]
        for version in (2, 3, 1, 4, 5):
            registry.champion = version
            server.service.model.check()
            time.sleep(0.1)
        stop.set()
        for client in clients:
            client.result()
    assert set(outcomes) >= {2, 3, 1, 4, 5}
    # A request is counted once its answer has been sent, which its client may have by then.
    wait_until(lambda: server.metric("requests_total", route="/v1/predict", status="200") == len(outcomes))


def test_registry_that_is_down_stops_nothing_and_is_reported(server, registry, caplog):
    registry.is_down = True
    for _ in range(3):
        server.service.model.check()
    assert version_of(server) == 1
    ready = server.get("/readyz")
    assert (ready.status_code, ready.json()["following"]["error"]) == (200, "the registry does not say what the alias stands for")
    assert server.metric("follow_errors_total") == 3
    assert [record.getMessage() for record in caplog.records if "registry" in record.getMessage()] == [
        "the registry does not say what the alias stands for, so tiles version 1 stays in force: "
        "MLflow at http://mlflow:5000: no answer"
    ]
    registry.is_down = False
    server.service.model.check()
    assert server.get("/readyz").json()["following"]["error"] is None


def test_champion_that_cannot_be_loaded_leaves_the_old_one_and_is_tried_again_later(server, registry, monkeypatch):
    registry.champion, registry.damaged = 2, {2}
    for _ in range(3):
        server.service.model.check()
    assert registry.loads == [1, 2]  # not every time
    assert version_of(server) == 1
    error = server.get("/readyz").json()["following"]["error"]
    assert error == "models:/tiles/2 cannot be loaded"
    assert server.metric("model_loads_total", outcome="failed") == 1
    registry.champion = 3
    server.service.model.check()
    assert version_of(server) == 3
    registry.champion, registry.damaged = 2, set()
    monkeypatch.setattr(following.time, "monotonic", lambda: 1e9)
    server.service.model.check()
    monkeypatch.undo()
    assert version_of(server) == 2


def test_thread_follows_by_itself(registry):
    with RunningDetector(registry.load, "models:/tiles@champion") as server:
        server.source.resolve = registry.resolve  # type: ignore[method-assign]
        server.service.model._interval = 0.02
        server.load()
        registry.champion = 2
        wait_until(lambda: version_of(server) == 2)
