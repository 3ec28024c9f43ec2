"""Predictions for requests: read in a few threads, computed in one, bounded in number, bytes and time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from adjobs.parallel import cores
from adjobs.serving.batching import Job, Predictor
from adjobs.serving.following import ModelInForce
from adjobs.serving.images import PreparedImage, Source, prepare
from adjobs.serving.limits import Limits, RefusalError, late, not_ready, too_large
from adjobs.serving.metrics import ServingMetrics
from adjobs.serving.models import ModelSource, ServedModel

if TYPE_CHECKING:
    from adjobs.inference.detector import ImagePrediction

MAX_READERS = 4
"""Threads that decode: so many images are in memory at their full size."""

Result = TypeVar("Result")


class Predicted(NamedTuple):
    """An image with what was predicted."""

    image: PreparedImage
    prediction: ImagePrediction


class PredictionService:
    """What answers requests.

    Args:
        source: of the model.
        limits: of requests.
        follow_seconds: between two questions to the registry, if the model is an alias.
    """

    def __init__(self, source: ModelSource, limits: Limits | None = None, follow_seconds: float = 10.0) -> None:
        self.limits, self.metrics = limits or Limits(), ServingMetrics()
        self.model = ModelInForce(source, self.metrics, follow_seconds)
        self.is_draining = False
        self._predictor = Predictor(self.metrics)
        self._readers = ThreadPoolExecutor(min(MAX_READERS, cores()), thread_name_prefix="read")
        self._requests = self._images = self._bytes = 0  # of the event loop alone

    def load(self) -> None:
        """Load the model, and answer from then on.

        Raises:
            AdjobsError: it cannot be loaded.
        """
        self._predictor.start()
        self.model.load()
        self.model.start()

    def drain(self) -> None:
        """Be ready no longer: what comes to a load balancer goes elsewhere. What has come is answered."""
        self.is_draining = True
        self.model.close()

    def close(self) -> None:
        """End the threads."""
        self.drain()
        self._predictor.close()
        self._readers.shutdown(wait=False, cancel_futures=True)

    @property
    def is_alive(self) -> bool:
        """Whether predictions are still possible, or not yet."""
        return self.model.current is None or self._predictor.is_alive

    @property
    def is_ready(self) -> bool:
        """Whether requests should come."""
        return self.model.current is not None and self._predictor.is_alive and not self.is_draining

    def take_model(self) -> ServedModel:
        """The model in force.

        Raises:
            RefusalError: it is not loaded yet.
        """
        model = self.model.current
        if model is None:
            raise not_ready()
        return model

    @contextmanager
    def admitted(self, size: int) -> Iterator[float]:
        """Keep place for a request, before its body is read; gives its deadline, by `time.monotonic`.

        Args:
            size: bytes of its body, or the most that it may have.

        Raises:
            RefusalError: there is no place, or the body is too large.
        """
        if size > self.limits.max_body:
            raise too_large(self.limits)
        model = self.take_model()
        if self._requests >= self.limits.max_queue or self._bytes + size > self.limits.max_buffered:
            raise self._overloaded(model)
        self._requests += 1
        self._bytes += size
        self.metrics.waiting_bytes.set(self._bytes)
        try:
            yield time.monotonic() + self.limits.timeout
        finally:
            self._requests -= 1
            self._bytes -= size
            self.metrics.waiting_bytes.set(self._bytes)

    async def predict(
        self, model: ServedModel, sources: Sequence[Source], deadline: float, *, with_overlay: bool = False
    ) -> list[Predicted]:
        """Predict the images of one request by one model.

        Args:
            model: from `take_model`.
            sources: the images.
            deadline: from `admitted`.
            with_overlay: whether they will be drawn.

        Raises:
            RefusalError: one of them is no image, there is no place for them, or it is too late.
        """
        with self._places(model, len(sources), deadline):
            async with _until(deadline):
                reading = (self._read(model, source, index, deadline, with_overlay) for index, source in enumerate(sources))
                prepared = await _all(reading)
                jobs = [Job(model, image, index, deadline) for index, image in enumerate(prepared)]
                self._predictor.submit(jobs)
                predictions = await _all(asyncio.wrap_future(job.future) for job in jobs)
        return [Predicted(image, prediction) for image, prediction in zip(prepared, predictions, strict=True)]

    async def in_thread(self, function: Callable[[], Result]) -> Result:
        """Do what would keep the others waiting in one of the threads that read."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, function)

    def _read(
        self, model: ServedModel, source: Source, index: int, deadline: float, with_overlay: bool
    ) -> Awaitable[PreparedImage]:
        def read() -> PreparedImage:
            if time.monotonic() > deadline:
                raise late()
            return prepare(source, index, model.detector, self.limits.max_pixels, with_overlay=with_overlay)

        return self.in_thread(read)

    @contextmanager
    def _places(self, model: ServedModel, count: int, deadline: float) -> Iterator[None]:
        if self._images + count > self.limits.max_queue:
            raise self._overloaded(model)
        # Whoever would wait longer than it can is refused now: it would keep others waiting, and leave without an answer.
        if self._images and time.monotonic() + self._predictor.seconds_of(self._images + count, model) > deadline:
            raise self._overloaded(model)
        self._images += count
        self.metrics.waiting.set(self._images)
        try:
            yield
        finally:
            self._images -= count
            self.metrics.waiting.set(self._images)

    def _overloaded(self, model: ServedModel) -> RefusalError:
        wait = self._predictor.seconds_of(self._images, model)
        return RefusalError(503, "overloaded", "too many images are waiting; try again later", retry_after=wait)


async def _all(awaited: Iterable[Awaitable[Result]]) -> list[Result]:
    """All results, or the error of the first that has one, once nothing of them goes on."""
    results = await asyncio.gather(*awaited, return_exceptions=True)
    errors = [result for result in results if isinstance(result, BaseException)]
    if errors:
        raise errors[0]
    return [result for result in results if not isinstance(result, BaseException)]


@asynccontextmanager
async def _until(deadline: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(deadline - time.monotonic()):
            yield
    except TimeoutError:
        raise late() from None
