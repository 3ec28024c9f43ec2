"""CDO's parameters."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from adjobs.methods.cdo.config import Config


def test_config_first_level_above_last_is_refused():
    with pytest.raises(ValidationError, match="first_level: got 3; must not exceed last_level 2"):
        Config(first_level=3, last_level=2)


def test_supervision_used_masks_only_if_used():
    assert Config().supervision_used == "none"
    assert Config(use_labelled_masks=True).supervision_used == "masks"
