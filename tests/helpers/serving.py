"""A server whose detector is drawn: its scores are known from its images."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Self

import numpy as np
import requests
import uvicorn
from PIL import Image

from adjobs.inference.detector import Detector, ImagePrediction
from adjobs.serving.app import make_app
from adjobs.serving.limits import Limits
from adjobs.serving.models import ModelSource
from adjobs.serving.service import PredictionService
from adjobs.web.timed_protocol import TimedProtocol
from tests.helpers.detectors import brightness_detector


class HeldDetector:
    """A detector that predicts when a test lets it."""

    def __init__(self, detector: Detector | None = None) -> None:
        self._detector = detector or brightness_detector()
        self.may_predict, self.batches = threading.Event(), []  # type: ignore[var-annotated]
        self.may_predict.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._detector, name)

    def expect(self, count: int) -> None:
        """Nothing is compiled: it would take a second."""

    def predict_batch(self, images: Sequence[Any], names: Sequence[str]) -> list[ImagePrediction]:
        self.batches.append(len(images))
        assert self.may_predict.wait(30)
        return self._detector.predict_batch(images, names)


class RunningDetector:
    """A server that ends with the block.

    Args:
        load: gives the detector of a model.
        model: that is served.
        limits: of requests.
        keys: digests of the keys that are let in.
    """

    def __init__(
        self,
        load: Callable[[str], Any] = lambda model: HeldDetector(),
        model: str = "models:/tiles/1",
        limits: Limits | None = None,
        keys: Sequence[str] = (),
    ) -> None:
        self.source = ModelSource(model, load, max_batch=(limits or Limits()).max_batch, find_run=lambda pinned: None)
        self.service = PredictionService(self.source, limits, follow_seconds=3600)
        config = uvicorn.Config(make_app(self.service, keys), port=0, log_level="warning", access_log=False, http=TimedProtocol)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        return self

    def __exit__(self, *error: object) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        self.service.close()

    def load(self) -> Self:
        self.service.load()
        return self

    def get(self, path: str, **options: Any) -> requests.Response:
        return requests.get(f"{self.url}{path}", timeout=20, **options)

    def post(self, *images: bytes, **options: Any) -> requests.Response:
        """Images as a form."""
        files = [("image", (f"{index}.png", image)) for index, image in enumerate(images)]
        return requests.post(f"{self.url}/v1/predict", files=files, timeout=30, **options)

    def post_json(self, document: Any, path: str = "/v1/predict", **options: Any) -> requests.Response:
        return requests.post(f"{self.url}{path}", json=document, timeout=30, **options)

    def predict(self, *images: bytes, **fields: str) -> list[dict[str, Any]]:
        """The predictions of images that can be predicted."""
        answer = self.post(*images, data=fields)
        assert answer.status_code == 200, answer.text
        predictions: list[dict[str, Any]] = answer.json()["predictions"]
        return predictions

    def metric(self, name: str, **labels: str) -> float:
        """A figure of the server."""
        text = ",".join(f'{key}="{labels[key]}"' for key in sorted(labels))
        wanted = f"adjobs_serving_{name}" + (f"{{{text}}}" if labels else "")
        lines = [line.rpartition(" ") for line in self.service.metrics.exposition().decode().splitlines()]
        return sum(float(value) for key, _, value in lines if key == wanted)


def draw_png(brightness: int = 200, size: tuple[int, int] = (160, 96), **options: Any) -> bytes:
    """A dark image with a bright rectangle."""
    pixels = np.full((size[1], size[0], 3), 30, np.uint8)
    pixels[size[1] // 3 : size[1] // 2, size[0] // 4 : size[0] // 2] = brightness
    return encode(Image.fromarray(pixels), "PNG", **options)


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The content of an image file."""
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def wait_until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    """Until a condition is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "never true"
        time.sleep(0.01)


def write_image(folder: Path, name: str = "cell.png", **options: Any) -> Path:
    """An image in a folder."""
    path = folder / name
    path.write_bytes(draw_png(**options))
    return path
