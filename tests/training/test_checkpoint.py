from __future__ import annotations

import pytest
import torch
from torch import nn

from adjobs.errors import SupersededError
from adjobs.storage import open_store
from adjobs.storage.fence import Fence, write_current
from adjobs.training import checkpoint
from adjobs.training.checkpoint import FencedCheckpoints, StoreCheckpoints, TrainingProgress


def test_fenced_checkpoints_superseded_attempt_leaves_the_last_one_as_it_is(tmp_path):
    queue = open_store(tmp_path / "queue")
    write_current(queue, 1)
    checkpoints = FencedCheckpoints(StoreCheckpoints(str(tmp_path / "run")), Fence(queue.uri(), 1), torch.device("cpu"))

    def save(interval: int) -> None:
        folder = tmp_path / f"local-{interval}"
        checkpoint.write(folder, nn.Linear(2, 2), None, None, TrainingProgress(interval=interval))
        checkpoints.save(folder, {})

    save(1)
    write_current(queue, 2)
    with pytest.raises(SupersededError, match="attempt 2 of this job has begun"):
        save(2)
    checkpoints.save(None, {})  # other ranks bring nothing
    with checkpoints.load() as folder:
        assert folder is not None
        assert checkpoint.read(folder).progress.interval == 1
