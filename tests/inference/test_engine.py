"""Every engine predicts what the method predicts; one that cannot is replaced by PyTorch, with a warning."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from adjobs import methods
from adjobs.errors import JobError
from adjobs.evaluation.evaluate import DeviceConfig
from adjobs.evaluation.predictions import PredictionArrays
from adjobs.inference import engine as engines
from adjobs.inference.drawn import drawn_images
from adjobs.inference.engine import (
    TOLERANCE,
    AdaptiveEngine,
    checked,
    convert_after,
    create_engine,
    find_difference,
)
from adjobs.inference.engine_torch import TorchEngine
from adjobs.inference.torch_detector import TorchDetector
from tests.helpers.detectors import SIDE, Brightness, NotFinite, make_manifest
from tests.helpers.tiny import tiny_method

CPU = DeviceConfig(torch.device("cpu"))


class Fixed:
    """Predicts the same score for every image, and remembers how many images it was given."""

    def __init__(self, score: float) -> None:
        self.score, self.counts = score, []

    def predict(self, images):
        self.counts.append(len(images))
        return PredictionArrays(np.full(len(images), self.score), None, {})


class Unconvertible(Brightness):
    """Asks a tensor for a value, which no graph can contain."""

    def predict(self, images):
        if images.mean().item() < 0:
            raise AssertionError("images are at least 0")
        return super().predict(images)


def blank(count: int) -> np.ndarray:
    return np.zeros((count, SIDE, SIDE, 3), np.uint8)


def arrays(score=(1.0, 2.0), maps=((0.0, 1.0), (2.0, 3.0)), **extra_scores) -> PredictionArrays:
    extras = {name: np.array(values) for name, values in extra_scores.items()}
    return PredictionArrays(np.array(score), None if maps is None else np.array(maps, np.float32)[:, None], extras)


def test_adaptive_engine_changes_after_the_first_images():
    first, other = Fixed(1.0), Fixed(1.0 + TOLERANCE / 2)
    engine = AdaptiveEngine(first, lambda: other, after=5)
    scores = [engine.predict(blank(2)).score[0] for _ in range(4)]
    assert scores == [1.0, 1.0, 1.0, other.score]
    assert other.counts == [2, 2]  # the check, and the fourth batch


def test_adaptive_engine_prepares_the_other_one_while_no_thread_predicts():
    inside, seen = [], []

    class Watched(Fixed):
        def predict(self, images):
            inside.append(threading.get_ident())
            time.sleep(0.002)
            predicted = super().predict(images)
            inside.remove(threading.get_ident())
            return predicted

    def build():
        for _ in range(20):
            time.sleep(0.002)
            seen.append(len(inside))
        return Fixed(1.0)

    engine = AdaptiveEngine(Watched(1.0), build, after=20)
    with ThreadPoolExecutor(4) as threads:
        predicted = list(threads.map(lambda _: engine.predict(blank(1)).score[0], range(40)))
    assert predicted == [1.0] * 40
    assert seen == [0] * 20


def test_adaptive_engine_goes_on_after_an_error_of_a_batch():
    class FailsOnce(Fixed):
        def predict(self, images):
            if not self.counts:
                self.counts.append(0)
                raise RuntimeError("too little memory")
            return super().predict(images)

    engine = AdaptiveEngine(FailsOnce(1.0), lambda: Fixed(1.0001), after=2)
    with pytest.raises(RuntimeError, match="too little memory"):
        engine.predict(blank(2))
    assert [engine.predict(blank(2)).score[0] for _ in range(2)] == [1.0, 1.0001]


@pytest.mark.parametrize(("count", "scores"), [(4, [1.0, 1.0, 1.0, 1.0001]), (5, [1.0, 1.0001, 1.0001, 1.0001])])
def test_adaptive_engine_that_expects_enough_images_changes_after_the_first_batch(count, scores):
    engine = AdaptiveEngine(Fixed(1.0), lambda: Fixed(1.0001), after=5)
    engine.expect(count)
    assert [engine.predict(blank(2)).score[0] for _ in range(4)] == scores


def test_adaptive_engine_that_predicts_something_else_is_not_used(caplog):
    engine = AdaptiveEngine(Fixed(1.0), lambda: Fixed(1.5), after=1)
    with caplog.at_level(logging.WARNING):
        assert [engine.predict(blank(1)).score[0] for _ in range(3)] == [1.0, 1.0, 1.0]
    (record,) = caplog.records
    assert record.getMessage() == ("the method is computed by PyTorch instead of OpenVINO: the score is 1.5, by PyTorch 1")


def test_checked_engine_that_cannot_be_made_is_named_in_one_line(caplog):
    def build():
        raise RuntimeError("no conversion rule\nfor round")

    reference = Fixed(1.0)
    assert checked(build, reference, blank(1)) is reference
    (record,) = caplog.records
    assert "its graph cannot be made (no conversion rule" in record.getMessage()
    assert "\n" not in record.getMessage()


def test_convert_after_small_images_pays_later():
    assert [convert_after(size) for size in (512, 256, 224, 128)] == [75, 300, 392, 1200]


@pytest.mark.parametrize(
    ("actual", "difference"),
    [
        (arrays(), None),
        (arrays(score=(1.0, 2.0 + 1.9 * TOLERANCE)), None),
        (arrays(score=(1.0, 2.0 + 2.1 * TOLERANCE)), "the score is 2.0021, by PyTorch 2"),
        (arrays(score=(1.0, float("nan"))), "the score is nan, by PyTorch 2"),
        (arrays(maps=((0.0, 1.0), (2.0, 3.0 + 2.9 * TOLERANCE))), None),
        (arrays(maps=((0.0, 1.0), (2.5, 3.0))), "a pixel of the anomaly map is 2.5, by PyTorch 2"),
    ],
)
def test_find_difference_is_relative_to_scores_and_range_of_maps(actual, difference):
    assert find_difference(arrays(), actual) == difference


def test_find_difference_further_scores_and_what_is_not_finite():
    assert find_difference(arrays(peak=(1.0, 2.0)), arrays(peak=(1.0, 2.5))) == "the score peak is 2.5, by PyTorch 2"
    infinite = arrays(score=(1.0, np.inf))
    assert find_difference(infinite, infinite) == "the score is inf, by PyTorch inf"
    assert find_difference(arrays(maps=None), arrays(maps=None)) is None
    constant = arrays(maps=((3.0, 3.0), (3.0, 3.0)))
    assert find_difference(constant, constant) is None


@pytest.mark.parametrize(
    ("name", "device", "message"),
    [
        ("onnx", "cpu", "engine: got 'onnx', available are auto, torch, openvino"),
        ("openvino", "cuda", "engine: openvino computes on processors, the device is cuda; give device cpu"),
    ],
)
def test_create_engine_unavailable_is_refused_in_one_line(name, device, message):
    with pytest.raises(JobError) as caught:
        create_engine(name, Brightness(), SIDE, DeviceConfig(torch.device(device)))
    assert str(caught.value) == message


def test_create_engine_without_openvino(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert isinstance(create_engine("auto", Brightness(), SIDE, CPU), TorchEngine)
    with pytest.raises(JobError, match=r"engine: openvino is not installed; run: pip install 'adjobs\[openvino\]', or give"):
        create_engine("openvino", Brightness(), SIDE, CPU)


@pytest.mark.parametrize("name", methods.names())
def test_torch_engine_does_not_depend_on_the_batch(name):
    engine = TorchEngine(tiny_method(name).to(memory_format=torch.channels_last), CPU)
    images = drawn_images(SIDE)
    singles = [engine.predict(images[i : i + 1]) for i in range(len(images))]
    for i, single in enumerate(singles):
        np.testing.assert_allclose(engine.predict(images).score[i], single.score[0], rtol=1e-5)


def openvino_engine(method, **options):
    pytest.importorskip("openvino")
    from adjobs.inference.engine_openvino import OpenVINOEngine

    return OpenVINOEngine.of(method, SIDE, **options)


@pytest.mark.slow
@pytest.mark.parametrize("name", methods.names())
def test_openvino_engine_predicts_and_decides_as_the_method(name):
    method = tiny_method(name).to(memory_format=torch.channels_last)
    before = {key: tensor.clone() for key, tensor in method.state_dict().items()}
    images = np.concatenate([drawn_images(SIDE), np.random.default_rng(1).integers(0, 256, (6, SIDE, SIDE, 3), np.uint8)])
    expected, actual = TorchEngine(method, CPU).predict(images), openvino_engine(method).predict(images)
    assert find_difference(expected, actual) is None
    assert (actual.score.dtype, actual.score.shape) == (np.float64, (8,))
    assert actual.extra_scores.keys() == expected.extra_scores.keys()
    assert (actual.anomaly_maps is None) == (expected.anomaly_maps is None)
    if expected.anomaly_maps is not None:
        assert (actual.anomaly_maps.dtype, actual.anomaly_maps.shape) == (np.float32, expected.anomaly_maps.shape)
    ordered = np.sort(expected.score)
    threshold = ordered[:-1][np.diff(ordered).argmax()] + np.diff(ordered).max() / 2
    np.testing.assert_array_equal(actual.score >= threshold, expected.score >= threshold)
    assert all(torch.equal(tensor, before[key]) for key, tensor in method.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize("params", [{"views": 4, "heat_map": True}, {"couple": False, "views": 2}])
def test_openvino_engine_of_flipped_views_predicts_as_the_method(params):
    method = tiny_method("liac", **params)
    images = drawn_images(SIDE)
    assert find_difference(TorchEngine(method, CPU).predict(images), openvino_engine(method).predict(images)) is None


@pytest.mark.slow
def test_openvino_engine_does_not_depend_on_the_batch():
    engine = openvino_engine(Brightness())
    images = np.random.default_rng(0).integers(0, 256, (5, SIDE, SIDE, 3), np.uint8)
    batch = engine.predict(images)
    for i in range(5):
        single = engine.predict(images[i : i + 1])
        np.testing.assert_array_equal(single.score[0], batch.score[i])
        np.testing.assert_array_equal(single.anomaly_maps[0], batch.anomaly_maps[i])


@pytest.mark.slow
def test_openvino_engine_divides_sums():
    """OpenVINO 2026.4 divides the sum by a wrong number unless the model is stored and read again."""

    class SumDivided(Brightness):
        def predict(self, images):
            return super().predict(images)._replace(score=images.sum((1, 2, 3)) / 64)

    images = drawn_images(SIDE)
    expected = TorchEngine(SumDivided(), CPU).predict(images)
    np.testing.assert_allclose(openvino_engine(SumDivided()).predict(images).score, expected.score, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("method", [Unconvertible(), NotFinite(float("nan"))])
def test_detector_falls_back_to_pytorch(method, caplog):
    pytest.importorskip("openvino")
    detector = TorchDetector(method, make_manifest(), torch.device("cpu"), "openvino")
    assert isinstance(method, NotFinite) or "its graph cannot be made" in caplog.text
    dark = np.full((1, SIDE, SIDE, 3), 51, np.uint8)
    assert detector.predict_arrays(dark).score == pytest.approx([0.2])


@pytest.mark.slow
def test_detector_that_several_threads_use_changes_to_openvino(monkeypatch, caplog):
    """While PyTorch exports a method in one thread, predictions of others with the same method fail, and the export with them."""
    pytest.importorskip("openvino")
    monkeypatch.setattr(engines, "convert_after", lambda image_size: 40)
    detector = TorchDetector(tiny_method("cdo"), make_manifest(), torch.device("cpu"))
    images = drawn_images(SIDE)
    expected = detector.predict_arrays(images).score
    with ThreadPoolExecutor(4) as threads:
        predicted = list(threads.map(lambda _: detector.predict_arrays(images).score, range(60)))
    np.testing.assert_allclose(predicted, np.tile(expected, (60, 1)), rtol=1e-4)
    assert not [record for record in caplog.records if record.name.startswith("adjobs")]
    assert type(detector.engine._engine).__name__ == "OpenVINOEngine"


@pytest.mark.slow
def test_detectors_that_are_compiled_at_the_same_time(caplog):
    """PyTorch's exports share state: several at once fail."""
    pytest.importorskip("openvino")
    images = drawn_images(SIDE)
    pairs = [(tiny_method(name), make_manifest()) for name in ("cdo", "liac", "dpae")]
    with ThreadPoolExecutor(len(pairs)) as threads:
        detectors = list(threads.map(lambda pair: TorchDetector(*pair, torch.device("cpu"), "openvino"), pairs))
    assert not [record for record in caplog.records if record.name.startswith("adjobs")]
    for detector in detectors:
        assert find_difference(TorchEngine(detector.method, CPU).predict(images), detector.predict_arrays(images)) is None
