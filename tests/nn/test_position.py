"""The sine-cosine position code."""

from __future__ import annotations

import pytest
import torch

from adjobs.nn.position import sincos_2d


def test_sincos_2d_positions_have_unique_codes_similar_to_neighbours():
    code = torch.nn.functional.normalize(sincos_2d(6, 8, 64).flatten(1), dim=0)
    similarity = (code.T @ code).view(6, 8, 6, 8)
    to_centre = similarity[2, 3]
    assert float(to_centre.max()) == pytest.approx(1)
    assert int(to_centre.argmax()) == 2 * 8 + 3
    assert (similarity.view(48, 48) > 1 - 1e-6).sum() == 48
    assert to_centre[2, 4] > to_centre[2, 5] > to_centre[2, 6]
    assert to_centre[3, 3] > to_centre[4, 3]
    torch.testing.assert_close(to_centre[2, 4], to_centre[3, 3])  # a step to the right is as far as one down


def test_sincos_2d_channels_not_divisible_by_4_are_refused():
    with pytest.raises(ValueError, match="got 6; must be a multiple of 4"):
        sincos_2d(2, 2, 6)
