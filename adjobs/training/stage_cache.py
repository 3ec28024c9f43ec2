"""Stages that trials of a search have in common: the first trial trains them, the others load its weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from adjobs.data.batches import TrainingData
from adjobs.methods.contract import Stage
from adjobs.training.checkpoint import snapshot
from adjobs.version import __version__

_WEIGHTS = "weights.safetensors"


class _TrainingOSError(Exception):
    """Carries an OSError of the training past the cache, which would take it for one of its own files."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


def train_or_load(data: TrainingData, stage: Stage, seed_key: Mapping[str, Any], train: Callable[[], None]) -> bool:
    """Train a stage if no other run of this machine has; else load the weights of the other.

    While one trains, others that need the same wait for it.

    Args:
        data: the training split, in whose cache the weights are kept.
        stage: ``depends_on`` lists what its outcome depends on beside the images.
        seed_key: what else it depends on: seed, precision, device.
        train: trains it to its end.

    Returns:
        Whether it was trained here.
    """
    trained = False

    def build(folder: Path) -> None:
        nonlocal trained
        try:
            train()
        except OSError as error:
            raise _TrainingOSError(error) from error
        trained = True
        save_file(snapshot(stage.module), folder / _WEIGHTS)

    key = {**(stage.depends_on or {}), **seed_key, "version": __version__, "torch": torch.__version__}
    try:
        weights = data.compute_once(f"trained-{stage.name}", key, _read, build)
    except _TrainingOSError as failure:
        raise failure.error from None
    if not trained:
        stage.module.load_state_dict(weights)
    return trained


def _read(folder: Path) -> dict[str, Tensor] | None:
    try:
        return dict(load_file(folder / _WEIGHTS))
    except (OSError, SafetensorError):
        return None
