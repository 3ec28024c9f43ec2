"""Textures to simulate anomalies from: drawn, or a user's pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from adjobs.data.images import ImageError, load_rgb
from adjobs.data.walk import is_image
from adjobs.errors import DataError
from adjobs.storage import open_store
from adjobs.synthesis.textures import textures

DRAWN = "drawn"


def texture_bank(source: str, count: int, size: int, seed: int) -> Tensor:
    """Up to ``count`` textures, ``(T, 3, size, size)`` uint8, the same for the same seed.

    Args:
        source: ``drawn``, or a folder or ``s3://`` prefix with pictures, which are looked for in its folders, too, and stretched.
        count: of more pictures so many are drawn at random.
        size: side in pixels.
        seed: of drawing and choice.

    Raises:
        DataError: no pictures there, or one that cannot be read.
        StorageError: the storage does not answer.
    """
    if source == DRAWN:
        drawn = textures(torch.Generator().manual_seed(seed), count, (size, size))
        return (drawn * 255).round().to(torch.uint8)
    store = open_store(source if "://" in source else Path(source).expanduser())
    keys = [entry.key for entry in store.list() if is_image(Path(entry.key)) and not _hidden(entry.key)]
    if not keys:
        raise DataError(f"textures '{source}': no pictures there; give a folder or s3:// prefix with some, or {DRAWN}")
    if len(keys) > count:
        keys = [keys[i] for i in sorted(np.random.default_rng(seed).choice(len(keys), count, replace=False))]
    pictures = []
    for key in keys:
        try:
            pictures.append(load_rgb(store.read(key), size))
        except ImageError as error:
            raise DataError(f"textures '{source}': {key}: {error.reason}; replace or remove it") from error
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


def _hidden(key: str) -> bool:
    return any(part.startswith(".") for part in key.split("/"))
