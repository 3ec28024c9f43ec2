"""An attempt that a later one has superseded leaves the run to it: no checkpoint, no model, no end."""

from __future__ import annotations

from pathlib import Path

import pytest

from adjobs.config.resolve import resolve
from adjobs.config.settings import Settings
from adjobs.errors import SupersededError
from adjobs.jobs import finalize, run
from adjobs.jobs.lifecycle import fenced
from adjobs.storage import open_store
from adjobs.storage.fence import Fence, write_current
from adjobs.tracking.layout import RunRef
from adjobs.tracking.runs import open_reader
from adjobs.types import JobStatus
from tests.helpers.drawing import draw_folder

pytestmark = pytest.mark.slow


def train_superseded(root: Path) -> RunRef:
    """The run of a job whose first attempt finds itself superseded."""
    params = {"backbone": "resnet18", "weights": "none", "epochs": 1, "batch_size": 4}
    data = {"uri": str(draw_folder(root / "data", 12, 6, size=32)), "image_size": 32}
    job = resolve({"method": "cdo", "params": params, "data": data, "track": "none"})
    settings = Settings.from_env({"ADJOBS_HOME": str(root / "home")})
    opened: list[RunRef] = []
    with fenced(Fence(str(root / "queue"), 1)), pytest.raises(SupersededError, match="attempt 1 writes nothing more"):
        run.train(job, settings, backend="local", on_progress=lambda update: None, on_open=opened.append)
    return opened[0]


def test_train_superseded_before_a_checkpoint_stores_none(tmp_path):
    write_current(open_store(tmp_path / "queue"), 2)
    ref = train_superseded(tmp_path)
    assert open_reader(ref).info.status == JobStatus.RUNNING
    assert open_store(tmp_path / "home" / "artifacts" / "checkpoints" / ref.run_id).list() == []


def test_train_superseded_before_the_model_is_logged_logs_none(tmp_path, monkeypatch):
    write_current(open_store(tmp_path / "queue"), 1)

    def supersede(*arguments: object) -> None:
        write_current(open_store(tmp_path / "queue"), 2)

    monkeypatch.setattr(finalize, "_log_tables_and_figures", supersede)
    info = open_reader(train_superseded(tmp_path)).info
    assert (info.status, "model" in info.tags) == (JobStatus.RUNNING, False)
