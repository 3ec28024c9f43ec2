"""A retraining for the queue, and the data set that it names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adjobs.config.job import JobConfig
from adjobs.config.resolve import resolve
from adjobs.queue.admission import DATASET_FILE
from adjobs.retraining import config
from adjobs.retraining.config import RetrainConfig


def draw_dataset(root: Path) -> Path:
    """A data set with versions, as far as the queue looks into it."""
    root.mkdir(parents=True, exist_ok=True)
    (root / DATASET_FILE).write_text("{}")
    return root


def retraining(dataset: Path, **values: Any) -> dict[str, Any]:
    """The document of a retraining."""
    return {"model": "line-3", "dataset": str(dataset), "job": {"method": "cdo"}, **values}


def ignore_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let jobs name data sets without versions."""

    def training_job(self: RetrainConfig, *versions: int | None) -> JobConfig:
        return resolve({**self.job, "data": {"uri": self.dataset}})

    monkeypatch.setattr(config, "_problems", lambda retraining: [])
    monkeypatch.setattr(RetrainConfig, "training_job", training_job)
