from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from adjobs.data.images import DecodedImage
from adjobs.serving.batching import Job, Predictor
from adjobs.serving.images import PreparedImage
from adjobs.serving.limits import RefusalError
from adjobs.serving.metrics import ServingMetrics
from adjobs.serving.models import ModelInfo, ServedModel
from tests.helpers.detectors import SIDE, NotFinite, brightness_detector
from tests.helpers.serving import HeldDetector, wait_until


@pytest.fixture
def predictor() -> Iterator[Predictor]:
    predictor = Predictor(ServingMetrics())
    predictor.start()
    yield predictor
    predictor.close()


def model_of(detector: Any, batch_size: int = 4, version: int = 1) -> ServedModel:
    return ServedModel(f"models:/a/{version}", ModelInfo("a", version, None, "cdo", SIDE, 0.8, 0.5), detector, batch_size, 0.01)


def job_of(model: ServedModel, brightness: int = 100, seconds: float = 60) -> Job:
    image = Image.fromarray(np.full((SIDE, SIDE, 3), brightness, np.uint8))
    return Job(model, PreparedImage(DecodedImage(image), (10, 20), None), 0, time.monotonic() + seconds)


def held(predictor: Predictor, model: ServedModel) -> Job:
    """A job that is being computed until the detector may go on."""
    model.detector.may_predict.clear()  # type: ignore[attr-defined]
    job = job_of(model)
    predictor.submit([job])
    wait_until(job.future.running)
    return job


def test_images_that_come_while_one_is_computed_are_the_next_batches(predictor):
    detector = HeldDetector()
    model = model_of(detector)
    first = held(predictor, model)
    others = [job_of(model, brightness) for brightness in range(50, 56)]
    for job in others:
        predictor.submit([job])
    detector.may_predict.set()
    assert [job.future.result(10).score for job in others] == pytest.approx([value / 255 for value in range(50, 56)])
    assert first.future.result(10).decision == "normal"
    assert detector.batches == [1, 4, 2]


def test_batch_has_images_of_one_model_only(predictor):
    old, new = model_of(HeldDetector()), model_of(HeldDetector(), version=2)
    held(predictor, old)
    jobs = [job_of(model) for model in (old, new, new, old)]
    predictor.submit(jobs)
    old.detector.may_predict.set()
    for job in jobs:
        job.future.result(10)
    assert (old.detector.batches, new.detector.batches) == ([1, 1, 1], [2])


def test_cancelled_and_late_images_are_not_computed(predictor):
    detector = HeldDetector()
    model = model_of(detector)
    held(predictor, model)
    cancelled, late, awaited = job_of(model), job_of(model, seconds=-1), job_of(model)
    predictor.submit([cancelled, late, awaited])
    assert cancelled.future.cancel()
    detector.may_predict.set()
    awaited.future.result(10)
    with pytest.raises(RefusalError, match="in time"):
        late.future.result(10)
    assert detector.batches == [1, 1]
    assert predictor._metrics.skipped._value.get() == 2


def test_score_that_is_not_finite_is_refused_alone(predictor):
    detector = HeldDetector(brightness_detector(method=NotFinite(float("inf"))))
    model = model_of(detector)
    held(predictor, model)
    jobs = [job_of(model, brightness) for brightness in (100, 255, 101)]
    predictor.submit(jobs)
    detector.may_predict.set()
    assert [jobs[index].future.result(10).score for index in (0, 2)] == pytest.approx([100 / 255, 101 / 255])
    with pytest.raises(RefusalError, match="image 0: the score or the anomaly map is NaN") as error:
        jobs[1].future.result(10)
    assert error.value.status == 422


def test_detector_that_fails_ends_its_batch_and_nothing_else(predictor):
    class Broken(HeldDetector):
        def predict_batch(self, images, names):
            raise RuntimeError("out of memory")

    broken, sound = job_of(model_of(Broken())), job_of(model_of(HeldDetector(), version=2))
    predictor.submit([broken, sound])
    with pytest.raises(RuntimeError, match="out of memory"):
        broken.future.result(10)
    assert sound.future.result(10).decision == "normal"


def test_close_refuses_what_waits_and_what_comes(predictor):
    model = model_of(HeldDetector())
    held(predictor, model)
    waiting = job_of(model)
    predictor.submit([waiting])
    predictor.close()
    with pytest.raises(RefusalError, match="stopping"):
        waiting.future.result(10)
    with pytest.raises(RefusalError, match="stopping"):
        predictor.submit([job_of(model)])
    model.detector.may_predict.set()
    wait_until(lambda: not predictor.is_alive)
