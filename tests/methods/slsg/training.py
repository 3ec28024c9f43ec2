"""Training a stage of SLSG without the training loop."""

from __future__ import annotations

from adjobs.methods.contract import Stage
from adjobs.types import Batch
from tests.helpers.randomness import generator


def take_steps(stage: Stage, count: int, batch: Batch) -> list[dict[str, float]]:
    """Take optimizer steps on one batch with a new seed each; returns the logged terms of each step."""
    optimizer, logged = stage.optimizer(), []
    stage.module.train()
    for step in range(count):
        loss = stage.module(batch._replace(generator=generator(step)))
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        logged.append({name: float(value) for name, value in loss.terms.items()})
    return logged
