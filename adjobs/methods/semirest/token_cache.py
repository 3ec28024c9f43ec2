"""Tokens of the training images, their coreset and their nearest neighbours in it: computed once per machine, memory-mapped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor, nn

from adjobs.data.cache.memmap import map_array, write_array
from adjobs.errors import DataError
from adjobs.methods.contract import TrainingImages
from adjobs.methods.semirest.memory import PROJECTED_DIMS, MemoryBank, bank_size
from adjobs.nn.coreset import coreset
from adjobs.nn.image_rows import ImageRows
from adjobs.types import Batch

BATCH = 16  # images whose tokens are computed or matched at a time


class CachedTokens(NamedTuple):
    """Tokens of the training images; the normal images come first.

    Attributes:
        image_indices: ``(N,)`` int64, see `Batch.indices`; ascending within the normal images and within the anomalies.
        values: ``(N, h, w, d)`` half precision, memory-mapped.
        n_normal: number of normal images.
    """

    image_indices: np.ndarray
    values: np.ndarray
    n_normal: int


def compute_tokens(data: TrainingImages, features: nn.Module, key: Mapping[str, Any]) -> CachedTokens:
    """Compute the tokens of all training images, or read them from the cache.

    Args:
        data: the training split.
        features: maps ``(B, 3, H, W)`` to ``(B, h, w, d)``.
        key: everything but the images that the tokens depend on.
    """
    total = data.n_normal + data.n_anomalous

    def build(folder: Path) -> None:
        image_indices: list[int] = []

        def values() -> Iterator[np.ndarray]:
            for batch in _batches(data):
                image_indices.extend(batch.indices.tolist())
                yield features(batch.images).cpu().numpy()

        write_array(folder / "tokens.npy", total, values())
        write_array(folder / "image_indices.npy", total, iter([np.array(image_indices, dtype=np.int64)]))

    def read(folder: Path) -> CachedTokens | None:
        values, image_indices = map_array(folder / "tokens.npy"), map_array(folder / "image_indices.npy")
        if values is None or image_indices is None or not len(values) == len(image_indices) == total:
            return None
        return CachedTokens(np.array(image_indices), values, data.n_normal)

    return data.compute_once("tokens", key, read, build)


def select_coreset(
    data: TrainingImages, tokens: CachedTokens, ratio: float, seed: int, key: Mapping[str, Any], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Select a coreset of the normal tokens, or read it from the cache.

    Args:
        data: the training split.
        tokens: of its images.
        ratio: fraction of the normal tokens to select.
        seed: of the selection.
        key: everything but the images that the tokens depend on.
        device: on which the coreset is selected.

    Returns:
        Tokens ``(M, d)`` and the images that they are from, ``(M,)``.

    Raises:
        DataError: all tokens are from one image, so that those of this image would match nothing.
    """
    normal = torch.from_numpy(tokens.values[: tokens.n_normal])
    tokens_per_image = normal[0, ..., 0].numel()

    def build(folder: Path) -> None:
        flat = normal.flatten(0, 2)
        generator = Generator(device).manual_seed(seed)
        selected = coreset(flat, bank_size(len(flat), ratio), generator, projected=PROJECTED_DIMS).cpu()
        image_indices = tokens.image_indices[: tokens.n_normal][selected.numpy() // tokens_per_image]
        write_array(folder / "bank.npy", len(selected), iter([flat[selected].numpy()]))
        write_array(folder / "image_indices.npy", len(selected), iter([image_indices]))

    def read(folder: Path) -> tuple[np.ndarray, np.ndarray] | None:
        bank, image_indices = map_array(folder / "bank.npy"), map_array(folder / "image_indices.npy")
        return (
            (bank, image_indices) if bank is not None and image_indices is not None and len(bank) == len(image_indices) else None
        )

    bank_key = {**key, "coreset_ratio": ratio, "seed": seed, "device": device.type}
    bank, image_indices = data.compute_once("bank", bank_key, read, build)
    if len(np.unique(image_indices)) < 2:
        raise DataError(
            f"all {len(bank)} tokens of the memory bank are from one normal image, which could not be matched to any other; "
            "add normal images, or choose a larger params.coreset_ratio"
        )
    return torch.from_numpy(np.array(bank)), torch.from_numpy(np.array(image_indices))


def match_tokens(data: TrainingImages, tokens: CachedTokens, memory: MemoryBank, k: int, key: Mapping[str, Any]) -> np.ndarray:
    """Find the k nearest neighbours of each training token, or read them from the cache.

    Returns:
        Indices into the memory bank, ``(N, h, w, k)`` int32.
    """
    device = memory.tokens.device

    def build(folder: Path) -> None:
        def indices() -> Iterator[np.ndarray]:
            for start in range(0, len(tokens.image_indices), BATCH):
                chunk = slice(start, start + BATCH)
                values = torch.from_numpy(tokens.values[chunk]).to(device)
                image_indices = torch.from_numpy(tokens.image_indices[chunk]).to(device)
                yield memory.search(values, k, image_indices).indices.int().cpu().numpy()

        write_array(folder / "neighbours.npy", len(tokens.image_indices), indices())

    def read(folder: Path) -> np.ndarray | None:
        neighbours = map_array(folder / "neighbours.npy")
        return neighbours if neighbours is not None and len(neighbours) == len(tokens.image_indices) else None

    return data.compute_once("neighbours", {**key, "bank": memory.digest(), "k": k}, read, build)


class TokenStore:
    """Looks up the cached tokens and neighbours of training images, on the device where they fit there."""

    def __init__(self, tokens: CachedTokens, neighbours: np.ndarray, device: torch.device) -> None:
        self._tokens = ImageRows(tokens.image_indices, tokens.values, device)
        self._neighbours = ImageRows(tokens.image_indices, neighbours, device)

    def get(self, image_indices: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens ``(B, h, w, d)`` and indices into the memory bank ``(B, h, w, k)`` of these images, on their device."""
        return self._tokens.get(image_indices), self._neighbours.get(image_indices).long()


def _batches(data: TrainingImages) -> Iterator[Batch]:
    yield from data.normal(BATCH)
    yield from data.anomalous(BATCH)
