"""Running SemiREST's preparations without the training loop."""

from __future__ import annotations

from adjobs.data.batches import TrainingData
from adjobs.methods.semirest.model import SemiREST


def start_stages(method: SemiREST, data: TrainingData, count: int | None = None) -> None:
    """Prepare and start the first ``count`` stages, or all of them, without taking a step."""
    for stage in method.stages()[:count]:
        if stage.prepare is not None:
            stage.prepare(data)
        if stage.on_stage_start is not None:
            stage.on_stage_start(data)
