"""The sine-cosine code."""

from __future__ import annotations

import pytest
import torch

from adjobs.nn.position import sincos_2d


def test_every_place_has_its_own_code_and_near_ones_are_alike():
    code = torch.nn.functional.normalize(sincos_2d(6, 8, 64).flatten(1), dim=0)
    likeness = (code.T @ code).view(6, 8, 6, 8)
    here = likeness[2, 3]
    assert float(here.max()) == pytest.approx(1)
    assert int(here.argmax()) == 2 * 8 + 3
    assert (likeness.view(48, 48) > 1 - 1e-6).sum() == 48
    assert here[2, 4] > here[2, 5] > here[2, 6]
    assert here[3, 3] > here[4, 3]
    torch.testing.assert_close(here[2, 4], here[3, 3])  # a step to the side is as far as one down


def test_channels_that_four_does_not_divide_are_refused():
    with pytest.raises(ValueError, match="got 6, need a multiple of 4"):
        sincos_2d(2, 2, 6)
