"""DPAE's equations, worked out by hand."""

from __future__ import annotations

import torch

from adjobs.methods.dpae.loss import move_prototype, squared_distance


def test_squared_distance_sums_over_the_values():
    """‖(1, 2) − (4, 6)‖² = 9 + 16; so does that of images."""
    a, b = torch.tensor([[1.0, 2.0]]), torch.tensor([[4.0, 6.0]])
    assert squared_distance(a, b).tolist() == [25.0]
    assert squared_distance(torch.zeros(2, 3, 4, 4), torch.full((2, 3, 4, 4), 0.5)).tolist() == [12.0, 12.0]
    assert squared_distance(a.bfloat16(), b.bfloat16()).dtype == torch.float32


def test_move_prototype_moves_by_alpha_towards_the_batch_mean():
    """Eq. (7): v = (1, 0), mean z = (3, 4): Δv = v − mean = (−2, −4); α = 0.5 gives (2, 2), α = 1 the mean itself."""
    v, mean = torch.tensor([1.0, 0.0]), torch.tensor([3.0, 4.0], requires_grad=True)
    assert move_prototype(v, mean, 0.5).tolist() == [2.0, 2.0]
    assert move_prototype(v, mean, 1.0).tolist() == [3.0, 4.0]
    assert not move_prototype(v, mean, 0.5).requires_grad
