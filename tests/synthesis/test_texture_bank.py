"""Textures for simulated anomalies: drawn, or from the user's folder."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from adjobs.errors import DataError
from adjobs.synthesis.texture_bank import TextureBank, load_texture_bank
from tests.helpers.drawing import save


def test_load_texture_bank_drawn_is_deterministic_for_a_seed():
    bank = load_texture_bank("drawn", 3, 32, seed=1)
    assert bank.shape == (3, 3, 32, 32)
    assert bank.dtype == torch.uint8
    assert torch.equal(bank, load_texture_bank("drawn", 3, 32, seed=1))
    assert not torch.equal(bank, load_texture_bank("drawn", 3, 32, seed=2))


def test_load_texture_bank_folder_is_searched_recursively_and_subsampled(tmp_path):
    for i in range(6):
        save(tmp_path / "kind" / f"{i}.png", np.full((20, 30, 3), 10 * i, dtype=np.uint8))
    (tmp_path / "readme.txt").write_text("not an image")
    (tmp_path / "kind" / "._0.png").write_bytes(b"metadata that macOS leaves next to a file")
    every = load_texture_bank(str(tmp_path), 10, 16, seed=0)
    assert every[:, 0, 0, 0].tolist() == [0, 10, 20, 30, 40, 50]
    subsample = load_texture_bank(str(tmp_path), 4, 16, seed=0)
    assert len(set(subsample[:, 0, 0, 0].tolist())) == 4
    assert torch.equal(subsample, load_texture_bank(f"file://{tmp_path}", 4, 16, seed=0))


def test_load_texture_bank_images_of_12_bits_are_read_by_one_range(tmp_path):
    for i, value in enumerate((4095, 2048)):
        save(tmp_path / f"{i}.png", np.full((20, 30), value, dtype=np.uint16))
    save(tmp_path / "8 bits.png", np.full((20, 30), 40, dtype=np.uint8))
    assert load_texture_bank(str(tmp_path), 10, 16, seed=0)[:, 0, 0, 0].tolist() == [255, 128, 40]


def test_load_texture_bank_empty_folder_is_refused(tmp_path):
    message = r"^textures '.*': no images found; give a folder or s3:// prefix that contains images, or 'drawn'$"
    with pytest.raises(DataError, match=message):
        load_texture_bank(str(tmp_path / "missing"), 4, 16, seed=0)


def test_load_texture_bank_unreadable_image_is_named(tmp_path):
    (tmp_path / "a.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"^textures '.*': a.png: .*; replace or remove it$"):
        load_texture_bank(str(tmp_path), 4, 16, seed=0)


def test_texture_bank_loads_when_first_used_and_only_once(tmp_path):
    bank = TextureBank(str(tmp_path), 4, 16, seed=0)
    save(tmp_path / "a.png", np.full((20, 30, 3), 10, dtype=np.uint8))
    textures = bank.on(torch.device("cpu"))
    assert torch.equal(textures, load_texture_bank(str(tmp_path), 4, 16, seed=0))
    assert bank.on(torch.device("cpu")) is textures
