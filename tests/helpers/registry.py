"""Registered models in a SQLite file of MLflow, with versions that hold no model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from adjobs.registry.journal import Journal
from adjobs.registry.models import ModelStore


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


def add_version(models: ModelStore, name: str, run_id: str | None = None) -> int:
    return int(models._client.create_model_version(name, "s3://adjobs/model", run_id).version)


def click(models: ModelStore, name: str, alias: str, version: int | None) -> None:
    """What a person does in the MLflow UI."""
    models.set_alias(name, alias, version)


def delete_version(models: ModelStore, name: str, version: int) -> None:
    models._client.delete_model_version(name, str(version))
