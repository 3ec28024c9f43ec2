"""What the server counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from adjobs.serving.models import ModelInfo

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
IMAGES = (1, 2, 4, 8, 16, 32, 64)
CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


class ServingMetrics:
    """Counters, histograms and gauges of one server."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        name = "adjobs_serving_"
        self.requests = Counter(f"{name}requests", "Answered requests.", ["route", "status"], registry=registry)
        self.request_seconds = Histogram(
            f"{name}request_seconds", "From the head of a request to its answer.", ["route"], buckets=SECONDS, registry=registry
        )
        self.refused = Counter(f"{name}refused", "Refused requests by reason.", ["reason"], registry=registry)
        self.images = Counter(f"{name}images", "Predicted images.", ["version", "decision"], registry=registry)
        self.batch_images = Histogram(f"{name}batch_images", "Images of a batch.", buckets=IMAGES, registry=registry)
        self.batch_seconds = Histogram(f"{name}batch_seconds", "Time of a batch.", buckets=SECONDS, registry=registry)
        self.skipped = Counter(f"{name}images_skipped", "Images of requests that were given up first.", registry=registry)
        self.waiting = Gauge(f"{name}queue_images", "Images that are read, wait or are computed.", registry=registry)
        self.waiting_bytes = Gauge(f"{name}queue_bytes", "Bytes of the requests that are in memory.", registry=registry)
        self.loads = Counter(f"{name}model_loads", "Loaded models by outcome: ok or failed.", ["outcome"], registry=registry)
        self.follow_errors = Counter(
            f"{name}follow_errors", "Times when the registry could not be asked for the alias.", registry=registry
        )
        self.followed_at = Gauge(
            f"{name}followed_timestamp_seconds", "When the registry last answered what the alias stands for.", registry=registry
        )
        self._model = Gauge(
            f"{name}model_info", "The model in force.", ["name", "version", "run_id", "method"], registry=registry
        )
        for outcome in ("ok", "failed"):
            self.loads.labels(outcome)

    def set_model(self, info: ModelInfo) -> None:
        """Name the model in force, and no other."""
        self._model.clear()
        self._model.labels(info.name, _text(info.version), info.run_id or "", info.method).set(1)

    def count_image(self, info: ModelInfo, decision: str) -> None:
        """An image was predicted."""
        self.images.labels(_text(info.version), decision).inc()

    def exposition(self) -> bytes:
        """In Prometheus's text format."""
        return generate_latest(self._registry)


def _text(version: int | None) -> str:
    return "" if version is None else str(version)
