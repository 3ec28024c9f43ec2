"""Images of many requests, computed one batch after the other in one thread.

While a batch is computed, images gather; the next batch takes them, up to what the model computes best at once. So an image that
comes alone is computed at once, and nobody waits for others to come.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from adjobs.errors import AdjobsError
from adjobs.serving.images import PreparedImage
from adjobs.serving.limits import RefusalError, late, not_ready
from adjobs.serving.metrics import ServingMetrics
from adjobs.serving.models import ServedModel

if TYPE_CHECKING:
    from adjobs.inference.detector import ImagePrediction

log = logging.getLogger(__name__)

RECENT = 0.1  # weight of the latest batch in the time that an image takes


@dataclass(eq=False)
class Job:
    """An image that is to be predicted.

    Attributes:
        model: by which, whatever is in force when its turn comes.
        image: at the model's own size.
        index: in its request.
        deadline: by `time.monotonic`, after which nobody waits for it.
        future: its prediction.
    """

    model: ServedModel
    image: PreparedImage
    index: int
    deadline: float
    future: Future[ImagePrediction] = field(default_factory=Future)


class Predictor:
    """The thread that predicts."""

    def __init__(self, metrics: ServingMetrics) -> None:
        self._metrics = metrics
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._recent = ("", 0.0)  # a model, by name, so that it can be freed, and the seconds that an image takes
        self._thread = threading.Thread(target=self._run, daemon=True, name="predict")

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """End the thread after the batch that it computes; what waits is cancelled."""
        with self._changed:
            self._closed = True
            for job in self._jobs:
                if job.future.set_running_or_notify_cancel():
                    job.future.set_exception(_stopping())
            self._jobs.clear()
            self._changed.notify_all()

    @property
    def is_alive(self) -> bool:
        """Whether somebody predicts."""
        return self._thread.is_alive()

    def submit(self, jobs: list[Job]) -> None:
        """Predict images in their turn."""
        with self._changed:
            if self._closed:
                raise _stopping()
            self._jobs.extend(jobs)
            self._changed.notify()

    def seconds_of(self, images: int, model: ServedModel) -> float:
        """How long so many images take, as the latest batches of the model took."""
        pinned, seconds = self._recent
        return images * (seconds if pinned == model.pinned else model.seconds)

    def _run(self) -> None:
        while True:
            batch = self._take()
            if batch is None:
                return
            self._compute(batch)
            del batch  # of a model that may be replaced while nothing comes

    def _take(self) -> list[Job] | None:
        """The next images of one model, of which somebody still waits for each; None at the end."""
        batch: list[Job] = []
        with self._changed:
            while not batch:
                self._changed.wait_for(lambda: self._jobs or self._closed)
                if self._closed:
                    return None
                while self._jobs and (not batch or self._fits(batch, self._jobs[0])):
                    job = self._jobs.popleft()
                    if self._is_awaited(job):
                        batch.append(job)
        return batch

    @staticmethod
    def _fits(batch: list[Job], job: Job) -> bool:
        return job.model is batch[0].model and len(batch) < job.model.batch_size

    def _is_awaited(self, job: Job) -> bool:
        awaited = job.future.set_running_or_notify_cancel()
        if awaited and time.monotonic() <= job.deadline:
            return True
        if awaited:
            job.future.set_exception(late())
        self._metrics.skipped.inc()
        return False

    def _compute(self, batch: list[Job]) -> None:
        started_at = time.perf_counter()
        try:
            outcomes: list[ImagePrediction | BaseException] = list(_predict(batch))
        except AdjobsError:  # one has a score that is not finite, which is no fault of the others
            outcomes = [_predict_alone(job) for job in batch]
        except Exception as error:
            log.exception("a batch of %d images could not be predicted", len(batch))
            outcomes = [error] * len(batch)
        seconds = time.perf_counter() - started_at
        self._metrics.batch_images.observe(len(batch))
        self._metrics.batch_seconds.observe(seconds)
        model = batch[0].model
        self._recent = (model.pinned, (1 - RECENT) * self.seconds_of(1, model) + RECENT * seconds / len(batch))
        for job, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                job.future.set_exception(outcome)
            else:
                self._metrics.count_image(job.model.info, outcome.decision)
                job.future.set_result(outcome)


def _stopping() -> RefusalError:
    return not_ready("the server is stopping; try again")


def _predict(batch: list[Job]) -> list[ImagePrediction]:
    detector = batch[0].model.detector
    names = [f"image {job.index}" for job in batch]
    predicted = detector.predict_batch([job.image.decoded for job in batch], names)
    # What was predicted is the image at the detector's own size; regions are in pixels of the original.
    return [
        detector.decide(each.score, each.anomaly_map, job.image.size, each.warning)
        for job, each in zip(batch, predicted, strict=True)
    ]


def _predict_alone(job: Job) -> ImagePrediction | BaseException:
    try:
        return _predict([job])[0]
    except AdjobsError as error:
        return RefusalError(422, "image", str(error), index=job.index)
    except Exception as error:
        log.exception("an image could not be predicted")
        return error
