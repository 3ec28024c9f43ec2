"""What a training resumes from: the method's weights, the optimizer's state and the step that was reached.

A checkpoint is a folder: ``state.pt`` (weights and optimizer, read with ``weights_only=True``), ``best.safetensors`` (the
weights that were best on validation so far) and ``progress.json``, written last.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from adjobs.errors import StorageError, one_line
from adjobs.storage import open_store, put_tree
from adjobs.storage.fence import Fence
from adjobs.training.agreement import agreed_errors


@dataclass
class TrainingProgress:
    """How far a training has come.

    Attributes:
        stage: index of the stage to continue with.
        step: optimizer steps taken in that stage.
        interval: evaluation intervals finished over all stages; the x axis of the metrics.
        best: best validation value so far, None before the first.
        best_interval: the interval that it was reached in.
        prepared: names of the stages whose preparation is done.
        seconds: that the training has taken so far.
        cut_stages: stages that the time limit ended, such as ``distil 120/300``, with the steps taken and planned.
    """

    stage: int = 0
    step: int = 0
    interval: int = 0
    best: float | None = None
    best_interval: int | None = None
    prepared: list[str] = field(default_factory=list)
    seconds: float = 0.0
    cut_stages: list[str] = field(default_factory=list)


class Checkpoints(Protocol):
    """Where checkpoints go. Every worker calls both methods; only rank 0 brings a folder."""

    def load(self) -> AbstractContextManager[Path | None]:
        """Folder of the last complete checkpoint, or None; to be read within the block, and not afterwards."""
        ...

    def save(self, folder: Path | None, metrics: Mapping[str, float]) -> None:
        """Replace the previous checkpoint; returns when the new one is stored."""
        ...


class StoreCheckpoints:
    """Checkpoints of a training in this process, in a folder or in S3."""

    def __init__(self, uri: str) -> None:
        self._store = open_store(uri)

    @contextmanager
    def load(self) -> Iterator[Path | None]:
        """Fetch the last complete checkpoint; ``latest`` names it."""
        if not self._store.exists("latest"):
            yield None
            return
        name = self._store.read("latest").decode()
        with TemporaryDirectory(prefix="adjobs-") as folder:
            for entry in self._store.list(f"{name}/"):
                self._store.get(entry.key, Path(folder, entry.key.removeprefix(f"{name}/")))
            yield Path(folder)

    def save(self, folder: Path | None, metrics: Mapping[str, float]) -> None:
        """Put the new checkpoint beside the old one, point ``latest`` at it, then delete the old one."""
        if folder is None:
            return
        old = self._store.read("latest").decode() if self._store.exists("latest") else None
        name = f"checkpoint-{json.loads((folder / 'progress.json').read_text())['interval']:06d}"
        put_tree(self._store, folder, name)
        self._store.write("latest", name.encode())
        if old is not None and old != name:
            self._store.delete(f"{old}/")


class FencedCheckpoints:
    """Checkpoints that a superseded attempt of a job no longer replaces.

    Args:
        checkpoints: of the job.
        fence: of the attempt.
        device: of this worker.
    """

    def __init__(self, checkpoints: Checkpoints, fence: Fence, device: torch.device) -> None:
        self._checkpoints, self._fence, self._device = checkpoints, fence, device

    def load(self) -> AbstractContextManager[Path | None]:
        """As without the fence."""
        return self._checkpoints.load()

    def save(self, folder: Path | None, metrics: Mapping[str, float]) -> None:
        """Replace the previous checkpoint.

        Raises:
            SupersededError: a later attempt has begun.
            AgreedError: the same, where there are several workers; on all of them, so that Ray does not start them again.
        """
        with agreed_errors(self._device):
            if folder is not None:
                self._fence.ensure_current()
        self._checkpoints.save(folder, metrics)


def write(
    folder: Path, method: nn.Module, optimizer: Optimizer | None, best: Mapping[str, Tensor] | None, progress: TrainingProgress
) -> None:
    """Write a checkpoint folder."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {"method": method.state_dict(), "optimizer": None if optimizer is None else optimizer.state_dict()}
    torch.save(state, folder / "state.pt")
    if best is not None:
        save_file(dict(best), folder / "best.safetensors")
    (folder / "progress.json").write_text(json.dumps(asdict(progress)))


@dataclass
class Checkpoint:
    """A checkpoint in memory; ``optimizer`` is None between two stages."""

    method: dict[str, Tensor]
    optimizer: dict[str, Any] | None
    best: dict[str, Tensor] | None
    progress: TrainingProgress


def read(folder: Path) -> Checkpoint:
    """Read a checkpoint folder into main memory; loading copies it to the device, except what the optimizer counts there.

    Raises:
        StorageError: the folder does not hold a checkpoint.
    """
    try:
        progress = TrainingProgress(**json.loads((folder / "progress.json").read_text()))
        state = torch.load(folder / "state.pt", map_location="cpu", weights_only=True)
        best = folder / "best.safetensors"
        # Copied, since these are maps of a file that goes.
        weights = {key: tensor.clone() for key, tensor in load_file(best).items()} if best.exists() else None
        return Checkpoint(state["method"], state["optimizer"], weights, progress)
    except Exception as error:  # torch, json and safetensors each have their own classes for a file that is not theirs
        raise StorageError(f"checkpoint {folder}: cannot be read ({one_line(error)}); start a new run") from error


def snapshot(method: nn.Module) -> dict[str, Tensor]:
    """A copy of the weights that training will not touch, contiguous as safetensors wants them."""
    return {key: tensor.detach().clone().contiguous() for key, tensor in method.state_dict().items()}
