"""What the gate decides on: champion and challenger, scored by the same code on the same images."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from adjobs.data.cache.images import open_cache
from adjobs.data.dataset import Dataset, Sample, fingerprint
from adjobs.data.images import decode, stretch
from adjobs.errors import RegistryError
from adjobs.evaluation.behaviour import ChangedDecisions, Pixels, count_changed_decisions
from adjobs.evaluation.evaluate import predict_split
from adjobs.evaluation.gate import PredictionCost, evaluate_gate
from adjobs.evaluation.gate_policy import GatePolicy
from adjobs.evaluation.gate_verdict import GateVerdict
from adjobs.evaluation.score_table import ScoreTable
from adjobs.inference.torch_detector import TorchDetector
from adjobs.retraining.memory import peak_memory_mib
from adjobs.types import ImageScores

MAX_BEHAVIOUR_IMAGES = 300
"""Images whose changes are predicted: enough for an upper limit 3 % above the share, and six predictions each."""


@dataclass(frozen=True)
class GateImages:
    """The frozen test split, of which one part is new to the champion.

    Attributes:
        samples: all of them, labelled.
        new: ids of the anomalies that the champion was neither trained, calibrated nor tested on.
    """

    samples: tuple[Sample, ...]
    new: frozenset[str]


@dataclass(frozen=True)
class ImageDecision:
    """What both models say of a test image.

    Attributes:
        id: of the image.
        label: 0 normal, 1 anomalous.
        defect: its type, or "".
        is_new: whether it belongs to the new anomalies.
        champion: whether the champion raises an alarm.
        challenger: whether the challenger does.
    """

    id: str
    label: int
    defect: str
    is_new: bool
    champion: bool
    challenger: bool


@dataclass(frozen=True)
class Evidence:
    """Both models' scores and decisions, and the gate's verdict on them."""

    verdict: GateVerdict
    decisions: tuple[ImageDecision, ...]


def choose_test_images(dataset: Dataset, test: Collection[str], seen: Collection[str], trained: Collection[str]) -> GateImages:
    """The images that both models are scored on.

    Args:
        dataset: the version that the challenger was trained on.
        test: ids of its test split.
        seen: ids of all images that the champion was trained, calibrated or tested on.
        trained: ids of those that it was trained or calibrated on.

    Raises:
        RegistryError: the champion was trained on images of the test split.
    """
    leaked = sorted(set(test) & set(trained))
    if leaked:
        more = f" (and {len(leaked) - 1} more)" if leaked[1:] else ""
        raise RegistryError(
            f"the champion was trained on images of the test split, such as {leaked[0]}{more}, and cannot be compared on it; "
            "promote a version that was trained on this data set"
        )
    samples = tuple(sample for sample in dataset.samples if sample.id in set(test))
    new = frozenset(sample.id for sample in samples if sample.label == "anomalous" and sample.id not in seen)
    return GateImages(samples, new)


def compare_detectors(
    champion: TorchDetector, challenger: TorchDetector, dataset: Dataset, images: GateImages, policy: GatePolicy, cache: Path
) -> Evidence:
    """Score both detectors, each at its own threshold, and ask the gate.

    Args:
        champion: the version in force.
        challenger: the version that would replace it.
        dataset: that the images belong to.
        images: the test images.
        policy: of the gate.
        cache: folder of decoded images.
    """
    test = replace(dataset, samples=images.samples)
    digest = fingerprint(test)
    first, second = (_score(detector, test, digest, cache) for detector in (champion, challenger))
    old = [sample.id for sample in images.samples if sample.id not in images.new]
    new = [sample.id for sample in images.samples if sample.id in images.new]
    verdict = evaluate_gate(
        policy,
        (first.table(old), second.table(old)),
        (first.table(new), second.table(new)) if new else None,
        cost=PredictionCost(second.ms_per_image, None if policy.max_memory_mib is None else peak_memory_mib(challenger)),
        behaviours=_behaviours(challenger, images.samples, policy),
    )
    decisions = tuple(
        ImageDecision(
            sample.id,
            int(sample.label == "anomalous"),
            sample.defect,
            sample.id in images.new,
            first.alarm(row),
            second.alarm(row),
        )
        for row, sample in enumerate(images.samples)
    )
    return Evidence(verdict, decisions)


@dataclass(frozen=True)
class _Scored:
    """One detector's scores of all test images, in their order."""

    scores: ImageScores
    threshold: float
    ms_per_image: float

    def table(self, ids: Sequence[str]) -> ScoreTable:
        """Of some of the images."""
        row_of = {name: row for row, name in enumerate(self.scores.ids)}
        rows = [row_of[name] for name in ids]
        groups = self.scores.groups
        return ScoreTable(
            ids=ids,
            labels=self.scores.labels[rows],
            scores=self.scores.score[rows],
            threshold=self.threshold,
            groups=None if groups is None else [groups[row] for row in rows],
        )

    def alarm(self, row: int) -> bool:
        """The decision on an image."""
        return bool(self.scores.score[row] >= self.threshold)


def _score(detector: TorchDetector, test: Dataset, digest: str, cache: Path) -> _Scored:
    manifest = detector.manifest
    images = open_cache(test, digest, manifest.image_size, cache, reading=manifest.image_reading)
    timed = predict_split(detector.method, images, test, [sample.id for sample in test.samples], detector.device_config)
    scores = timed.scores._replace(anomaly_maps=None, masks=None)  # large, and not compared
    return _Scored(scores, detector.threshold, timed.ms_per_image)


def _behaviours(detector: TorchDetector, samples: Sequence[Sample], policy: GatePolicy) -> list[ChangedDecisions]:
    """Decisions that small changes change, on images of both labels in turn."""
    if not policy.behaviours:
        return []
    by_label = [[sample for sample in samples if (sample.label == "anomalous") == label] for label in (False, True)]
    share = MAX_BEHAVIOUR_IMAGES // 2
    spare = [max(0, share - len(group)) for group in by_label]
    chosen = [*_spread(by_label[0], share + spare[1]), *_spread(by_label[1], share + spare[0])]
    reading = detector.manifest.image_reading

    def images() -> Iterator[Pixels]:
        for sample in chosen:
            yield np.asarray(decode(sample.image, reading))

    def decide(batch: Sequence[Pixels]) -> np.ndarray:
        size = detector.manifest.image_size
        decoded = [detector.read_image(image) for image in batch]
        arrays = np.stack([stretch(each.image, size) for each in decoded])
        return np.asarray(detector.predict_arrays(arrays).score >= detector.threshold)

    return count_changed_decisions(images(), decide, policy.behaviours)


def _spread(samples: Sequence[Sample], count: int) -> list[Sample]:
    """At most so many, evenly from the whole list."""
    if not samples:
        return []
    rows = np.linspace(0, len(samples) - 1, min(count, len(samples))).round().astype(int)
    return [samples[row] for row in rows]
