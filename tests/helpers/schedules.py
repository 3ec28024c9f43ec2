"""A retraining for the queue, and the data set that it names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adjobs.config.settings import Settings
from adjobs.data.versions.record import SplitRule
from adjobs.versioning.creating import create_dataset


def empty_dataset(root: Path) -> Path:
    """A data set with versions, without images."""
    create_dataset(str(root), settings=Settings.from_env({"ADJOBS_HOME": str(root)}), author="ann", rule=SplitRule())
    return root


def retraining(dataset: Path, **values: Any) -> dict[str, Any]:
    """The document of a retraining."""
    return {"model": "line-3", "dataset": str(dataset), "job": {"method": "cdo"}, **values}
