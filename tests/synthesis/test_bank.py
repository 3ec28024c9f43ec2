"""Textures for simulated anomalies: drawn, or a user's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from adjobs.errors import DataError
from adjobs.synthesis.bank import texture_bank
from tests.helpers.drawing import save


def test_drawn_ones_are_the_same_for_the_same_seed():
    bank = texture_bank("drawn", 3, 32, seed=1)
    assert bank.shape == (3, 3, 32, 32)
    assert bank.dtype == torch.uint8
    assert torch.equal(bank, texture_bank("drawn", 3, 32, seed=1))
    assert not torch.equal(bank, texture_bank("drawn", 3, 32, seed=2))


def test_a_folder_is_looked_through_and_of_many_pictures_some_are_drawn(tmp_path):
    for i in range(6):
        save(tmp_path / "kind" / f"{i}.png", np.full((20, 30, 3), 10 * i, dtype=np.uint8))
    (tmp_path / "readme.txt").write_text("no picture")
    (tmp_path / "kind" / "._0.png").write_bytes(b"what some systems leave beside a picture")
    every = texture_bank(str(tmp_path), 10, 16, seed=0)
    assert every[:, 0, 0, 0].tolist() == [0, 10, 20, 30, 40, 50]
    some = texture_bank(str(tmp_path), 4, 16, seed=0)
    assert len(set(some[:, 0, 0, 0].tolist())) == 4
    assert torch.equal(some, texture_bank(f"file://{tmp_path}", 4, 16, seed=0))


def test_no_pictures_and_broken_ones_are_one_line(tmp_path):
    with pytest.raises(DataError, match=r"^textures '.*': no pictures there; give a folder or s3:// prefix with some, or drawn$"):
        texture_bank(str(tmp_path / "nothing"), 4, 16, seed=0)
    (tmp_path / "a.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"^textures '.*': a.png: .*; replace or remove it$"):
        texture_bank(str(tmp_path), 4, 16, seed=0)
