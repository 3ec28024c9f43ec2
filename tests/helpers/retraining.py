"""Retrainings small enough to run in seconds, and a process that is killed at any of the writes that last."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adjobs.config.settings import Settings
from adjobs.retraining.config import RetrainConfig, parse_retraining
from tests.helpers.drawing import draw_folder, save, scratch, texture

MODEL = "line-3"
JOB: dict[str, Any] = {
    "method": "cdo",
    "data": {"image_size": 32},
    "params": {"weights": "none", "backbone": "resnet18", "batch_size": 8, "epochs": 1},
}
GATE: dict[str, Any] = {
    "auroc_margin": 0.49,
    "recall_margin": 0.9,
    "target_gain": None,
    "max_false_alarm_rate": 0.99,
    "behaviours": ["flip"],
    "max_changed_decisions": 0.99,
}
"""So wide that a model that has learnt nothing passes: what is tested is the pass, not the model."""


def make_config(folder: Path, **changes: Any) -> RetrainConfig:
    """A retraining of the data set and the inbox in a folder."""
    document = {
        "model": MODEL,
        "dataset": str(folder / "dataset"),
        "inbox": str(folder / "inbox"),
        "job": JOB,
        "when": {"new_labels": 5},
        "gate": GATE,
    }
    return parse_retraining({**document, **changes})


def draw_initial(folder: Path) -> Path:
    """Twenty normal images and eight scratched ones."""
    return draw_folder(folder / "initial", 20, 8, size=32)


def fill_inbox(folder: Path, count: int, start: int = 0) -> None:
    """Scratched images that were labelled."""
    rng = np.random.default_rng(1000 + start)
    for index in range(start, start + count):
        image, mask = scratch(texture(32, rng), rng)
        save(folder / "inbox" / "bad" / "dent" / f"{index:03}.png", image)
        save(folder / "inbox" / "masks" / "dent" / f"{index:03}.png", mask)


@dataclass
class Writes:
    """Counts the writes that last, and kills the process after one of them."""

    kill_after: int | None
    count: int = 0
    log: Path | None = None

    def wrap(self, owner: type, name: str) -> None:
        """Count the calls of a method when they have been made."""
        original: Callable[..., Any] = getattr(owner, name)

        def counted(*arguments: Any, **keywords: Any) -> Any:
            result = original(*arguments, **keywords)
            self.count += 1
            if self.log is not None:
                with self.log.open("a") as file:
                    file.write(f"{owner.__name__}.{name}\n")
            if self.count == self.kill_after:
                os._exit(9)
            return result

        setattr(owner, name, counted)


def count_writes(kill_after: int | None, log: Path | None = None) -> Writes:
    """Count, in this process, what a pass makes in the artifact store, the data set and MLflow."""
    from mlflow import MlflowClient

    from adjobs.storage.local import LocalStore

    writes = Writes(kill_after, log=log)
    for name in ("create", "put"):
        writes.wrap(LocalStore, name)
    for name in (
        "create_run",
        "set_terminated",
        "create_logged_model",
        "finalize_logged_model",
        "create_registered_model",
        "create_model_version",
        "set_registered_model_alias",
        "set_registered_model_tag",
        "set_model_version_tag",
    ):
        writes.wrap(MlflowClient, name)
    return writes


def in_child(work: Callable[[], Any]) -> int:
    """Do something in a process of its own, forked from this one, which has imported what is slow; returns its exit status."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def restore(snapshot: Path, folder: Path) -> None:
    """Put a folder back to what it was."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(snapshot, folder, symlinks=True)


def settings_of(folder: Path) -> Settings:
    """Everything in one folder: MLflow in a SQLite file, artifacts, cache."""
    return Settings.from_env({"ADJOBS_HOME": str(folder / "home"), "ADJOBS_ARTIFACTS": str(folder / "artifacts")})
