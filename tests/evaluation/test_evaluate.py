"""Predictions of a split: every image at its own index, and no wrong reuse of earlier results."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from adjobs.data.cache.images import ImageCache, open_cache
from adjobs.data.dataset import Dataset
from adjobs.data.open import open_dataset
from adjobs.evaluation.evaluate import CachedEvaluator, DeviceConfig, evaluation_mode, predict_split
from adjobs.evaluation.predictions import ScoreError
from adjobs.types import Prediction
from tests.helpers.drawing import draw_folder

CPU = DeviceConfig(torch.device("cpu"))


class Brightness(nn.Module):
    """The anomaly map is the image's brightness times a gain."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = 1.0

    def predict(self, images: torch.Tensor) -> Prediction:
        grey = images.mean(1, keepdim=True) * self.gain
        return Prediction(grey.amax((1, 2, 3)), grey, {"mean": grey.mean((1, 2, 3))})


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
    folder = tmp_path_factory.mktemp("data")
    drawn = open_dataset(str(draw_folder(folder / "data", 18, 3, size=32)), cache=folder)
    samples = tuple(dataclasses.replace(sample, defect=sample.defect or "none") for sample in drawn.samples)
    return dataclasses.replace(drawn, samples=samples)


@pytest.fixture(scope="module")
def cache(dataset, tmp_path_factory) -> ImageCache:
    return open_cache(dataset, "f" * 64, 32, tmp_path_factory.mktemp("cache"), progress=False)


@pytest.fixture(scope="module")
def ids(dataset) -> tuple[str, ...]:
    return tuple(sample.id for sample in dataset.samples)[::-1]


def test_predict_split_keeps_order_of_ids(dataset, cache, ids):
    scores, ms_per_image = predict_split(Brightness(), cache, dataset, ids, CPU)
    images = np.stack([cache.images[cache.index_of[sample_id]] for sample_id in ids])
    assert scores.ids == ids
    np.testing.assert_allclose(scores.anomaly_maps, images.mean(3) / 255, atol=1e-6)
    np.testing.assert_array_equal(scores.score, scores.anomaly_maps.max((1, 2)))
    np.testing.assert_allclose(scores.extra_scores["mean"], scores.anomaly_maps.mean((1, 2)), atol=1e-6)
    assert ms_per_image > 0


def test_predict_split_normal_images_have_no_defect_type(dataset, cache, ids):
    scores, _ = predict_split(Brightness(), cache, dataset, ids, CPU)
    assert {(label, defect) for label, defect in zip(scores.labels, scores.defects, strict=True)} == {(0, ""), (1, "scratch")}


def test_predict_split_missing_mask_is_marked_as_unknown(dataset, cache, ids):
    complete = predict_split(Brightness(), cache, dataset, ids, CPU).scores
    assert complete.masks.any((1, 2)).sum() == 3
    assert complete.mask_known is None
    first = next(sample for sample in dataset.samples if sample.label == "anomalous")
    samples = tuple(dataclasses.replace(sample, mask=None) if sample is first else sample for sample in dataset.samples)
    unmasked = dataclasses.replace(dataset, samples=samples)
    scores = predict_split(Brightness(), cache, unmasked, ids, CPU).scores
    assert [name for name, is_known in zip(ids, scores.mask_known, strict=True) if not is_known] == [first.id]
    assert scores.masks.any((1, 2)).sum() == 2
    assert scores.complete_masks is None


def test_predict_split_without_any_mask_has_none(dataset, cache, ids):
    samples = tuple(dataclasses.replace(sample, mask=None) for sample in dataset.samples)
    scores = predict_split(Brightness(), cache, dataclasses.replace(dataset, samples=samples), ids, CPU).scores
    assert (scores.masks, scores.mask_known) == (None, None)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("score", [True, False])
def test_predict_split_scores_that_are_not_finite_are_refused_with_the_image(dataset, cache, ids, value, score):
    class Diverged(Brightness):
        def predict(self, images: torch.Tensor) -> Prediction:
            prediction = super().predict(images)
            (prediction.score if score else prediction.anomaly_map)[1] = value
            return prediction

    with pytest.raises(ScoreError, match=f"^{ids[1]}: the score or the anomaly map is NaN or infinite, must be finite; .*lower"):
        predict_split(Diverged(), cache, dataset, ids[:16], CPU)


def test_evaluation_mode_restores_previous_mode():
    method = Brightness().train()
    with evaluation_mode(method):
        assert not method.training
        assert torch.is_inference_mode_enabled()
    assert method.training
    with pytest.raises(RuntimeError, match="stop"), evaluation_mode(method.eval()):
        raise RuntimeError("stop")
    assert not method.training


def test_cached_evaluator_reuses_latest_result_until_invalidated(dataset, cache, ids):
    method = Brightness()
    evaluator = CachedEvaluator(method, cache, dataset, CPU)
    latest = evaluator.evaluate(ids[:3])
    method.gain = 2.0
    assert evaluator.cached(ids[:3]) is latest
    assert evaluator.cached(ids[3:5]).scores.ids == ids[3:5]
    assert evaluator.cached(ids[:3]).scores.score == pytest.approx(2 * latest.scores.score)
    method.gain = 3.0
    evaluator.invalidate()
    assert evaluator.cached(ids[:3]).scores.score == pytest.approx(3 * latest.scores.score)
