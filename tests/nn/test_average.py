"""The moving average of weights."""

from __future__ import annotations

import torch
from torch import nn

from adjobs.nn.average import WeightAverage


def test_update_decay_grows_up_to_its_value():
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, 0.0)
    average, expected = WeightAverage(module), 0.0
    for step in range(50):
        nn.init.constant_(module.weight, float(step))
        average.update(module, 0.8, torch.tensor(step))
        decay = min(0.8, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    torch.testing.assert_close(float(average.get_buffer("weight")), expected)


def test_call_and_copy_to_use_the_average():
    module = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2))
    average = WeightAverage(module)
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    before = module(x)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1)
    assert not torch.allclose(module(x), before)
    torch.testing.assert_close(average.call(module, x), before)
    average.copy_to(module)
    torch.testing.assert_close(module(x), before)


def test_average_is_stored_and_not_trained():
    average = WeightAverage(nn.Linear(2, 2))
    assert list(average.parameters()) == []
    assert set(average.state_dict()) == {"weight", "bias"}
