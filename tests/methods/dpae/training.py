"""Small DPAEs, and plain training steps."""

from __future__ import annotations

import torch

from adjobs.methods import presets
from adjobs.methods.dpae.config import Config
from adjobs.methods.dpae.model import DPAE, build
from tests.helpers.tiny import SIDE

SMALL = {"backbone": "resnet18", "weights": "none", "width": 8, "latent": 16, "batch_size": 4, "epochs": 2}
PAPER = {**presets("dpae")["paper"], "latent": 16}


def small_dpae(image_size: int = SIDE, **params) -> DPAE:
    return build(Config(**{**SMALL, **params}), image_size=image_size, seed=0)


def train(method: DPAE, data, steps: int) -> dict[str, torch.Tensor]:
    """Seeded steps of the only stage, with its hooks; returns the loss terms of the last step."""
    (stage,) = method.stages()
    if stage.prepare is not None:
        stage.prepare(data)
    if stage.on_stage_start is not None:
        stage.on_stage_start(data)
    optimizer, plan = stage.optimizer(), data.plan(stage.mix, 1)
    method.train()
    for step in range(steps):
        loss = method(plan.batch(step, seed=0, stage=0, rank=0, device=torch.device("cpu")))
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    if stage.fit_statistics is not None:
        stage.fit_statistics(data)
    return loss.terms
