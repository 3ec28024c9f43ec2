from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import requests

from adjobs.errors import ServerError, StorageError
from adjobs.inference.detector_folder import save
from adjobs.serving.limits import Limits
from adjobs.serving.models import ModelSource
from adjobs.serving.server import check_door, serve
from adjobs.serving.service import PredictionService
from adjobs.web.door import Door
from tests.helpers.detectors import brightness_detector, make_manifest
from tests.helpers.serving import HeldDetector, draw_png, wait_until
from tests.helpers.tiny import small_params, tiny_method


def free_port() -> int:
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def service_of(load, **limits) -> PredictionService:
    return PredictionService(ModelSource("models:/tiles/1", load, find_run=lambda pinned: None), Limits(**limits))


class Stop(BaseException):
    """Stands for the signal that unwinds the main thread."""


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "::"])
def test_check_door_another_host_without_a_key_is_refused_unless_requested(host):
    with pytest.raises(ServerError, match=rf"--host {host} lets other machines in, and there is no key; give --api-key-file"):
        check_door(Door(host, 1), [], without_key=False)
    check_door(Door(host, 1), [], without_key=True)
    check_door(Door(host, 1), ["digest"], without_key=False)


def test_check_door_this_machine_needs_no_key(caplog):
    check_door(Door("127.0.0.1", 1), [], without_key=False)
    assert caplog.records == []
    check_door(Door("0.0.0.0", 8443), ["digest"], without_key=False)
    assert "images and keys come to 0.0.0.0:8443 unencrypted; give --tls-cert and --tls-key" in caplog.text


def test_serve_stopped_answers_what_has_come(monkeypatch):
    detector, stop = HeldDetector(), threading.Event()
    service, port = service_of(lambda model: detector), free_port()

    def pause() -> None:
        if stop.wait(0.2):
            raise Stop

    monkeypatch.setattr("adjobs.serving.server._pause", pause)
    ended: list[BaseException] = []

    def run() -> None:
        try:
            serve(service, Door("127.0.0.1", port))
        except BaseException as error:
            ended.append(error)

    main = threading.Thread(target=run)
    main.start()
    wait_until(lambda: service.is_ready, 30)
    detector.may_predict.clear()
    answers: list[requests.Response] = []
    url = f"http://127.0.0.1:{port}/v1/predict"
    client = threading.Thread(target=lambda: answers.append(requests.post(url, files={"image": draw_png()}, timeout=20)))
    client.start()
    wait_until(lambda: service._images == 1)
    stop.set()
    wait_until(lambda: service.is_draining)
    threading.Timer(0.3, detector.may_predict.set).start()
    client.join()
    main.join()
    assert answers[0].status_code == 200
    assert isinstance(ended[0], Stop)
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=5)


def test_serve_model_that_cannot_be_loaded_ends_it():
    def load(model: str) -> object:
        raise StorageError("detector x: cannot be read")

    with pytest.raises(StorageError, match="cannot be read"):
        serve(service_of(load), Door("127.0.0.1", free_port()))


def test_serve_port_that_is_taken_is_one_line():
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServerError, match=f"cannot answer at 127.0.0.1:{port}; is the port taken"):
            serve(service_of(lambda model: brightness_detector()), Door("127.0.0.1", port))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small detector."""
    folder = tmp_path_factory.mktemp("detectors") / "cells"
    save(folder, tiny_method("cdo"), make_manifest("cdo", small_params("cdo"), pixel=0.5))
    return folder


class ServingProcess:
    """``adjobs serve`` at a port."""

    def __init__(self, folder: Path, home: Path, *options: str) -> None:
        self.port = free_port()
        command = ["serve", str(folder), "--port", str(self.port), "--engine", "torch", *options]
        self._command, self._home = [sys.executable, "-m", "adjobs", *command], home
        self.start()

    def start(self) -> None:
        env = {**os.environ, "ADJOBS_HOME": str(self._home)}
        self.process = subprocess.Popen(self._command, env=env, stderr=subprocess.PIPE, text=True)

    def predict(self, image: bytes) -> dict:
        """As a client that tries again."""
        while True:
            try:
                answer = requests.post(f"http://127.0.0.1:{self.port}/v1/predict", files={"image": image}, timeout=30)
                if answer.status_code == 200:
                    return dict(answer.json()["predictions"][0])
                assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
            except requests.ConnectionError:
                assert self.process.poll() in (None, -signal.SIGKILL), self.process.stderr.read()
            time.sleep(0.2)


@pytest.fixture
def running(folder: Path, tmp_path: Path) -> Iterator[ServingProcess]:
    running = ServingProcess(folder, tmp_path / "home")
    yield running
    running.process.kill()
    running.process.wait()


@pytest.mark.slow
def test_killed_and_started_again_loses_no_image_of_clients_that_try_again(running):
    images = [draw_png(brightness) for brightness in range(60, 240, 6)]
    expected = running.predict(images[0])
    outcomes: list[dict] = []
    client = threading.Thread(target=lambda: outcomes.extend(running.predict(image) for image in images))
    client.start()
    wait_until(lambda: outcomes)
    running.process.kill()
    running.process.wait()
    running.start()
    client.join(120)
    assert len(outcomes) == len(images)
    assert outcomes[0] == expected
    running.process.terminate()
    assert running.process.wait(20) == 143
    log = running.process.stderr.read()
    assert f"cells answers at http://127.0.0.1:{running.port}" in log
    assert log.rstrip().endswith("stopped")
    assert "Traceback" not in log
