"""What one worker finds wrong ends all of them, wherever it is found."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import multiprocessing

from adjobs.errors import DataError, StorageError
from adjobs.evaluation.evaluate import DeviceConfig
from adjobs.methods.contract import Selection, Stage
from adjobs.storage import open_store
from adjobs.storage.fence import Fence, write_current
from adjobs.training.agreement import AgreedError, agreed_errors
from adjobs.training.callbacks import SilentCallback
from adjobs.training.checkpoint import Checkpoints, FencedCheckpoints, StoreCheckpoints
from adjobs.training.loop import Validation, fit
from adjobs.training.stage_trainer import WorkerContext
from adjobs.types import Batch, StepLoss
from tests.helpers.drawing import draw_folder
from tests.helpers.tiny import drawn_data
from tests.training.test_loop import CPU, TwoStages

LONG = "x" * 5000


class FailsOnSecond(TwoStages):
    """Something is wrong on the second worker alone."""

    def __init__(self, rank: int, place: str) -> None:
        super().__init__()
        self.place = place if rank == 1 else ""

    def forward(self, batch: Batch) -> StepLoss:
        loss = super().forward(batch)
        return loss._replace(terms={"half": loss.total.detach() * float("nan")}) if self.place == "loss" else loss

    def fail_at(self, place: str) -> None:
        if self.place == place:
            raise DataError(f"{place}: a file is missing")

    def stages(self) -> Sequence[Stage]:
        hooks: dict[str, Callable[[Any], None]] = {
            place: lambda data, place=place: self.fail_at(place) for place in ("prepare", "on_stage_start", "fit_statistics")
        }
        return [dataclasses.replace(stage, **hooks) for stage in super().stages()]


PLACES = {
    "on_train_start": "DataError: on_train_start: a file is missing",
    "prepare": "DataError: prepare: a file is missing",
    "on_stage_start": "DataError: on_stage_start: a file is missing",
    "fit_statistics": "DataError: fit_statistics: a file is missing",
    "loss": "TrainingError: stage a, interval 1: half not finite; lower the learning rate, or use train.precision fp32",
    "storage": f"StorageError: {LONG}",
    "fence": "SupersededError: attempt 2 of this job has begun; attempt 1 writes nothing more",
}


def make_checkpoints(root: Path, place: str, rank: int) -> Checkpoints:
    """Those of an attempt that is superseded, of which only the first worker hears, at one place."""
    stored = StoreCheckpoints(str(root / place / str(rank)))
    return FencedCheckpoints(stored, Fence(str(root / "queue"), 1), CPU) if place == "fence" else stored


def run_place(rank: int, place: str, root: Path) -> str:
    """What one of two workers raises, and what kind that is."""
    method = FailsOnSecond(rank, place)
    try:
        if place == "storage":
            with agreed_errors(CPU):
                if rank == 1:
                    raise StorageError(LONG)
        fit(
            method,
            drawn_data(root / "d", root / "cache", 32)[1],
            WorkerContext(DeviceConfig(CPU), rank, 2),
            validation=Validation(Selection("last", "image_auroc"), lambda: {}),
            checkpoints=make_checkpoints(root, place, rank),
            callback=SilentCallback(),
            on_train_start=lambda: method.fail_at("on_train_start"),
        )
    except AgreedError as agreed:
        return f"{type(agreed.error).__name__}: {agreed.error}"
    return "nothing"


def run_places(rank: int, root: str) -> None:
    """All places in one process, since starting it takes longer."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{root}/meeting", rank=rank, world_size=2, timeout=timedelta(seconds=30))
    outcomes = {place: run_place(rank, place, Path(root)) for place in PLACES}
    Path(root, f"outcomes-{rank}").write_text(json.dumps(outcomes))
    dist.destroy_process_group()


@pytest.mark.slow
def test_fit_what_one_worker_finds_is_raised_by_both(tmp_path):
    draw_folder(tmp_path / "d", 16, 8)
    drawn_data(tmp_path / "d", tmp_path / "cache", 32)
    write_current(open_store(tmp_path / "queue"), 2)
    multiprocessing.spawn(run_places, (str(tmp_path),), nprocs=2)
    first, second = (json.loads((tmp_path / f"outcomes-{rank}").read_text()) for rank in (0, 1))
    assert second == PLACES
    assert first["storage"].startswith("StorageError: xxxx")
    assert len(first["storage"]) < 4200
    assert {place: first[place] for place in first if place != "storage"} == {
        place: text for place, text in PLACES.items() if place != "storage"
    }


def test_agreed_errors_of_a_single_worker_pass():
    error = DataError("no images")
    with pytest.raises(DataError) as raised, agreed_errors(CPU):
        raise error
    assert raised.value is error
