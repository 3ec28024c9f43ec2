"""Registered models in a SQLite file of MLflow, with versions that hold no model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from adjobs.inference.manifest import Manifest, write_manifest
from adjobs.registry.journal import Journal
from adjobs.registry.models import ModelStore
from adjobs.tracking.experiments import experiment_id
from adjobs.tracking.layout import TAG, RunRef
from adjobs.tracking.writer import MlflowRunWriter
from adjobs.types import ImageScores
from tests.helpers.detectors import image_threshold


@pytest.fixture
def store(tmp_path: Path, empty_mlflow: Callable[[Path], str]) -> ModelStore:
    """The registry with the model "line-3", which has versions 1 to 4 and no alias."""
    models = ModelStore(empty_mlflow(tmp_path))
    add_model(models, "line-3", 4)
    return models


@pytest.fixture
def journal(store: ModelStore, tmp_path: Path) -> Journal:
    """The aliases of these models, whose history is in a folder."""
    return Journal(store, str(tmp_path / "artifacts"), "ann")


def add_model(models: ModelStore, name: str, versions: int) -> None:
    models._client.create_registered_model(name)
    for _ in range(versions):
        add_version(models, name)


def add_version(models: ModelStore, name: str) -> int:
    return int(models._client.create_model_version(name, "s3://adjobs/model").version)


def draw_scores(quality: float, normal: int = 100, anomalous: int = 40, shift: int = 0) -> ImageScores:
    """Scores that separate the classes the better, the higher the quality."""
    labels = np.repeat([0, 1], [normal, anomalous])
    score = np.random.default_rng(3).normal(size=normal + anomalous) * 0.1 + quality * labels
    ids = tuple(f"{number + shift:04}.png" for number in range(normal + anomalous))
    return ImageScores(ids, labels, score, tuple("" if label == 0 else "scratch" for label in labels), None, None)


def add_evaluated_version(
    models: ModelStore,
    name: str,
    folder: Path,
    scores: ImageScores,
    *,
    threshold: float = 0.5,
    fingerprint: str = "a" * 64,
) -> int:
    """A version whose run stored these scores of the test split, and whose detector decides by this threshold."""
    client = models._client
    run = client.create_run(experiment_id(client, models.uri, "line"), tags={f"{TAG}data_fingerprint": fingerprint})
    writer = MlflowRunWriter(RunRef(models.uri, run.info.run_id))
    writer.log_scores(scores, threshold, "test")
    writer.log_metrics({"test/ms_per_image": 12.5, "test/image_auroc": 0.9, "val/image_auroc": 0.8}, 1)
    detector = folder / run.info.run_id / "artifacts" / "detector"
    detector.mkdir(parents=True)
    manifest = Manifest(
        method="cdo", params={}, image_size=64, threshold=image_threshold(threshold), data_fingerprint=fingerprint
    )
    write_manifest(detector, manifest)
    return int(client.create_model_version(name, str(detector.parents[1]), run.info.run_id).version)


def click(models: ModelStore, name: str, alias: str, version: int | None) -> None:
    """What a person does in the MLflow UI."""
    models.set_alias(name, alias, version)


def delete_version(models: ModelStore, name: str, version: int) -> None:
    models._client.delete_model_version(name, str(version))
