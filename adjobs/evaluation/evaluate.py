"""Predictions for the images of a split."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from adjobs import devices
from adjobs.data.cache.images import ImageCache
from adjobs.data.dataset import Dataset, Sample
from adjobs.data.packing import NO_ROWS, PackedBatch, scale
from adjobs.data.prefetch import prefetch
from adjobs.evaluation.predictions import EVAL_BATCH, PredictionArrays, check_finite
from adjobs.methods.method import Method
from adjobs.types import ImageScores, Prediction

GPU_EVAL_PIXELS = 32 * 256**2  # of the images of a batch on a GPU


class DeviceConfig(NamedTuple):
    """Where and how precisely networks run: ``autocast`` is None for float32."""

    device: torch.device
    autocast: torch.dtype | None = None

    def autocasting(self) -> torch.autocast:
        """The context in which networks run at this precision."""
        return torch.autocast(self.device.type, self.autocast or torch.bfloat16, enabled=self.autocast is not None)


class TimedScores(NamedTuple):
    """Scores and what they cost."""

    scores: ImageScores
    ms_per_image: float


class CachedEvaluator:
    """Predicts splits with a method as it is now, and keeps the latest result: the last validation is also the final one."""

    def __init__(self, method: Method, cache: ImageCache, dataset: Dataset, device_config: DeviceConfig) -> None:
        self.method, self.cache, self.dataset, self._device_config = method, cache, dataset, device_config
        self._latest: TimedScores | None = None

    def evaluate(self, ids: tuple[str, ...]) -> TimedScores:
        """Predict the samples of a split, and keep the result."""
        self._latest = predict_split(self.method, self.cache, self.dataset, ids, self._device_config)
        return self._latest

    def cached(self, ids: tuple[str, ...]) -> TimedScores:
        """The kept result if it is of these samples, else a new one."""
        return self._latest if self._latest is not None and self._latest.scores.ids == ids else self.evaluate(ids)

    def invalidate(self) -> None:
        """Forget the kept result, because the method has changed."""
        self._latest = None


@contextmanager
def evaluation_mode(method: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; the previous mode is restored at the end."""
    was_training = method.training
    method.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        method.train(was_training)


def predict_split(
    method: Method, cache: ImageCache, dataset: Dataset, ids: Sequence[str], device_config: DeviceConfig
) -> TimedScores:
    """Predict all images of a split.

    Args:
        method: on the device of ``device_config``.
        cache: decoded images.
        dataset: labels and masks of the samples.
        ids: the split's samples, all of them labelled.
        device_config: device and precision.

    Raises:
        ScoreError: a score or a pixel of an anomaly map is not finite.
    """
    samples = {sample.id: sample for sample in dataset.samples}
    indices = np.array([cache.index_of[sample_id] for sample_id in ids], dtype=np.int64)
    pixels = cache.images.shape[1] * cache.images.shape[2]
    size = max(EVAL_BATCH, GPU_EVAL_PIXELS // pixels) if devices.is_gpu(device_config.device) else EVAL_BATCH
    slices = [slice(start, start + size) for start in range(0, len(indices), size)]

    def pack(images: slice) -> PackedBatch:
        buffer = devices.host_buffer(cache.images[0].size * len(indices[images]), device_config.device)
        np.take(cache.images, indices[images], axis=0, out=buffer.view(-1, *cache.images.shape[1:]).numpy(), mode="clip")
        return PackedBatch(buffer, NO_ROWS)

    score, maps = np.empty(len(ids)), None
    extra_scores: dict[str, np.ndarray] = {}
    started_at = time.perf_counter()
    with evaluation_mode(method), closing(prefetch(pack, slices, device_config.device)) as batches:
        for batch, packed in batches:
            prediction = predict_tensor(method, packed.buffer.view(-1, *cache.images.shape[1:]), device_config)
            check_finite(prediction, ids[batch])
            score[batch] = prediction.score
            for name, values in prediction.extra_scores.items():
                extra_scores.setdefault(name, np.empty(len(ids)))[batch] = values
            if prediction.anomaly_maps is not None:
                # Allocated at once: joining the batches at the end would take twice the memory.
                shape = (len(ids), *prediction.anomaly_maps.shape[1:])
                maps = np.empty(shape, dtype=prediction.anomaly_maps.dtype) if maps is None else maps
                maps[batch] = prediction.anomaly_maps
    seconds = time.perf_counter() - started_at
    has_groups = any(samples[sample_id].group for sample_id in ids)
    masks, mask_known = _masks(cache, samples, ids)
    return TimedScores(
        ImageScores(
            ids=tuple(ids),
            labels=np.array([int(samples[sample_id].label == "anomalous") for sample_id in ids], dtype=np.int64),
            score=score,
            # A manifest may give normal images the defect "none", which is no defect type.
            defects=tuple(samples[sample_id].defect if samples[sample_id].label == "anomalous" else "" for sample_id in ids),
            anomaly_maps=maps,
            masks=masks,
            extra_scores=extra_scores,
            groups=tuple(samples[sample_id].group or sample_id for sample_id in ids) if has_groups else None,
            mask_known=mask_known,
        ),
        1000 * seconds / max(1, len(ids)),
    )


def predict_images(method: Method, images: np.ndarray, device_config: DeviceConfig) -> PredictionArrays:
    """Predict ``(B, H, W, 3)`` uint8 images."""
    writable = np.require(images, requirements="W")  # tensors cannot be read-only
    return predict_tensor(method, torch.from_numpy(writable).to(device_config.device), device_config)


def predict_tensor(method: Method, images: Tensor, device_config: DeviceConfig) -> PredictionArrays:
    """Predict ``(B, H, W, 3)`` uint8 images that are on the device."""
    with device_config.autocasting():
        return to_arrays(method.predict(scale(images)))


def to_arrays(prediction: Prediction) -> PredictionArrays:
    """A prediction as arrays in main memory; waits for the device."""
    maps = None if prediction.anomaly_map is None else prediction.anomaly_map[:, 0].float().cpu().numpy()
    extra_scores = {name: score.double().cpu().numpy() for name, score in (prediction.extra_scores or {}).items()}
    return PredictionArrays(prediction.score.double().cpu().numpy(), maps, extra_scores)


def _masks(cache: ImageCache, samples: Mapping[str, Sample], ids: Sequence[str]) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Defect pixels ``(N, H, W)`` bool, and for which images ``(N,)`` they are known, as `ImageScores` has them.

    Normal images have no defect pixels. Blocks and boxes are too coarse to evaluate against.
    """
    anomalous = [i for i, sample_id in enumerate(ids) if samples[sample_id].label == "anomalous"]
    masked = [i for i in anomalous if samples[ids[i]].mask is not None]
    if not masked:
        return None, None
    masks = np.zeros((len(ids), *cache.images.shape[1:3]), dtype=bool)
    for i in masked:
        masks[i] = cache.labels[cache.label_index_of[ids[i]]]
    if len(masked) == len(anomalous):
        return masks, None
    known = np.ones(len(ids), dtype=bool)
    known[sorted({*anomalous} - {*masked})] = False
    return masks, known
