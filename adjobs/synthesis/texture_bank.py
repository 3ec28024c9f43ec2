"""Textures for simulated anomalies: procedurally drawn, or the user's own images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from adjobs.data.image_reading import PixelRange, decide_reading
from adjobs.data.images import ImageError, load_rgb
from adjobs.data.pixels import find_range
from adjobs.data.walk import is_image
from adjobs.errors import DataError
from adjobs.storage import open_store
from adjobs.synthesis.textures import draw_textures

DRAWN = "drawn"


def load_texture_bank(source: str, count: int, size: int, seed: int) -> Tensor:
    """Load or draw up to ``count`` textures, ``(T, 3, size, size)`` uint8; deterministic for a seed.

    Args:
        source: ``drawn``, or a folder or ``s3://`` prefix that is searched recursively for images, which are stretched.
        count: maximum number of textures; a larger folder is subsampled at random.
        size: side in pixels.
        seed: of drawing and subsampling.

    Raises:
        DataError: there are no images, or one cannot be read.
        StorageError: the storage does not respond.
    """
    if source == DRAWN:
        drawn = draw_textures(torch.Generator().manual_seed(seed), count, (size, size))
        return (drawn * 255).round().to(torch.uint8)
    store = open_store(source)
    keys = [entry.key for entry in store.list() if is_image(Path(entry.key)) and not _is_hidden(entry.key)]
    if not keys:
        raise DataError(f"textures '{source}': no images found; give a folder or s3:// prefix that contains images, or '{DRAWN}'")
    if len(keys) > count:
        keys = [keys[i] for i in sorted(np.random.default_rng(seed).choice(len(keys), count, replace=False))]
    images: dict[str, np.ndarray] = {}
    deep: dict[str, tuple[bytes, PixelRange]] = {}  # those of more than 8 bits, which are read alike
    for key in keys:
        content = store.read(key)
        with _texture_errors(source, key):
            pixels = find_range(content)
            if pixels is None:
                images[key] = load_rgb(content, size)
            else:
                deep[key] = (content, pixels)
    reading = decide_reading(pixels for _, pixels in deep.values())
    for key, (content, _) in deep.items():
        with _texture_errors(source, key):
            images[key] = load_rgb(content, size, reading)
    return torch.from_numpy(np.stack([images[key] for key in keys])).permute(0, 3, 1, 2).contiguous()


@contextmanager
def _texture_errors(source: str, key: str) -> Iterator[None]:
    try:
        yield
    except ImageError as error:
        raise DataError(f"textures '{source}': {key}: {error.reason}; replace or remove it") from error


class TextureBank:
    """A texture bank that is loaded when it is first needed.

    The seed determines its content, so that a resumed run loads the same textures; they are not part of the model's state.

    Args:
        source, count, size, seed: see `load_texture_bank`.
    """

    def __init__(self, source: str, count: int, size: int, seed: int) -> None:
        self._source, self._count, self._size, self._seed = source, count, size, seed
        self._textures: Tensor | None = None

    def on(self, device: torch.device) -> Tensor:
        """The textures on a device, ``(T, 3, size, size)`` uint8.

        Raises:
            DataError, StorageError: see `load_texture_bank`.
        """
        if self._textures is None:
            self._textures = load_texture_bank(self._source, self._count, self._size, self._seed)
        if self._textures.device != device:
            self._textures = self._textures.to(device)
        return self._textures


def _is_hidden(key: str) -> bool:
    return any(segment.startswith(".") for segment in key.split("/"))
