"""The memory of good tokens, and what is kept of the training images: their tokens and their nearest ones in the memory."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import torch
from torch import Generator, Tensor, nn

from adjobs.data.cache.memmap import map_array, write_array
from adjobs.errors import DataError, JobError
from adjobs.methods.contract import TrainingImages
from adjobs.nn.coreset import coreset
from adjobs.nn.neighbours import Neighbours, nearest
from adjobs.types import Batch

BATCH = 16  # images whose tokens are taken at a time
PROJECTED = 128  # dimensions in which the coreset is chosen
USABLE = 0.8  # share of the free memory that may be planned with


class Memory(nn.Module):
    """Position-constrained tokens of good images.

    ``bank`` is ``(M, d)`` in half precision, ``owners`` the ``(M,)`` rows of the images that they are from. Both are part of the
    state; a state with another M is taken as it is.
    """

    bank: Tensor
    owners: Tensor

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.register_buffer("bank", torch.empty(0, dims, dtype=torch.half))
        self.register_buffer("owners", torch.empty(0, dtype=torch.long))

    def fill(self, bank: Tensor, owners: Tensor) -> None:
        """Hold these tokens from now on."""
        self.bank, self.owners = bank.to(self.bank), owners.to(self.owners)

    def search(self, tokens: Tensor, k: int, rows: Tensor | None = None) -> Neighbours:
        """The k nearest of each token, nearest first, both results ``(B, h, w, k)``.

        Args:
            tokens: ``(B, h, w, d)``.
            k: at most M.
            rows: ``(B,)``, which images these are; None for images that are not in the memory. An image does not match itself;
                where that leaves fewer than k, the nearest one stands for the others.
        """
        flat = tokens.flatten(0, 2)
        own, owners = None, None
        if rows is not None:
            own, owners = rows.repeat_interleave(tokens[0, ..., 0].numel()), self.owners
        # As without autocast: bfloat16 would lose the nearest ones, and matches that are kept are searched without it.
        with torch.autocast(self.bank.device.type, enabled=False):
            found = nearest(flat, self.bank, k, own=own, owners=owners)
        indices = torch.where(found.distances.isinf(), found.indices[:, :1], found.indices)
        return Neighbours(*(part.view(*tokens.shape[:3], k) for part in (found.distances, indices)))

    def residuals(self, tokens: Tensor, indices: Tensor) -> Tensor:
        """f⁺ − m⁺, signed, in full precision, for ``(…, d)`` tokens and ``(…)`` places in the memory."""
        dtype = torch.promote_types(self.bank.dtype, torch.float32)
        return tokens.to(dtype) - self.bank[indices].to(dtype)

    def digest(self) -> str:
        """What tells this memory from others."""
        digest = hashlib.sha256()
        for values in (self.bank, self.owners):
            digest.update(values.cpu().contiguous().numpy().data)
        return digest.hexdigest()

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *others: Any) -> None:
        for name in ("bank", "owners"):
            if prefix + name in state_dict:
                own = getattr(self, name)
                setattr(self, name, own.new_empty(state_dict[prefix + name].shape))
        super()._load_from_state_dict(state_dict, prefix, *others)


class Tokens(NamedTuple):
    """Tokens of training images, in memory maps.

    Attributes:
        rows: ``(N,)`` int64, which images they are of; ascending within the good ones and within the anomalies.
        values: ``(N, h, w, d)`` half.
        n_normal: the first so many are good.
    """

    rows: np.ndarray
    values: np.ndarray
    n_normal: int


def take_tokens(data: TrainingImages, features: nn.Module, key: Mapping[str, Any]) -> Tokens:
    """Tokens of all training images, made once on this machine.

    Args:
        data: the training part.
        features: ``(B, 3, H, W)`` to ``(B, h, w, d)``.
        key: what they depend on beside the images.
    """
    total = data.n_normal + data.n_anomalous

    def build(folder: Path) -> None:
        rows: list[int] = []

        def values() -> Iterator[np.ndarray]:
            for batch in _batches(data):
                rows.extend(batch.indices.tolist())
                yield features(batch.images).cpu().numpy()

        write_array(folder / "tokens.npy", total, values())
        write_array(folder / "rows.npy", total, iter([np.array(rows, dtype=np.int64)]))

    def read(folder: Path) -> Tokens | None:
        values, rows = map_array(folder / "tokens.npy"), map_array(folder / "rows.npy")
        whole = values is not None and rows is not None and len(values) == len(rows) == total
        return Tokens(np.array(rows), values, data.n_normal) if whole and values is not None else None

    return data.compute_once("tokens", key, read, build)


def choose_bank(
    data: TrainingImages, tokens: Tokens, ratio: float, seed: int, key: Mapping[str, Any], device: torch.device
) -> tuple[Tensor, Tensor]:
    """A coreset of the good tokens and the images they are from, chosen once on this machine.

    Raises:
        DataError: all of it would be from one image, which could then match nothing.
    """
    good = torch.from_numpy(tokens.values[: tokens.n_normal])
    per_image = good[0, ..., 0].numel()

    def build(folder: Path) -> None:
        flat = good.flatten(0, 2)
        chosen = coreset(flat, bank_size(len(flat), ratio), Generator(device).manual_seed(seed), projected=PROJECTED).cpu()
        write_array(folder / "bank.npy", len(chosen), iter([flat[chosen].numpy()]))
        write_array(folder / "owners.npy", len(chosen), iter([tokens.rows[: tokens.n_normal][chosen.numpy() // per_image]]))

    def read(folder: Path) -> tuple[np.ndarray, np.ndarray] | None:
        bank, owners = map_array(folder / "bank.npy"), map_array(folder / "owners.npy")
        return (bank, owners) if bank is not None and owners is not None and len(bank) == len(owners) else None

    bank, owners = data.compute_once("bank", {**key, "coreset": ratio, "seed": seed, "device": device.type}, read, build)
    if len(np.unique(owners)) < 2:
        raise DataError(
            f"{len(bank)} tokens of one good image fill the memory, so that it would match nothing else; "
            "give more good images, or a larger params.coreset"
        )
    return torch.from_numpy(np.array(bank)), torch.from_numpy(np.array(owners))


def bank_size(tokens: int, ratio: float) -> int:
    """Number of tokens in the memory."""
    return max(1, round(ratio * tokens))


def match(data: TrainingImages, tokens: Tokens, memory: Memory, k: int, key: Mapping[str, Any]) -> np.ndarray:
    """Places in the memory of the k nearest of each training token, ``(N, h, w, k)`` int32, searched once on this machine."""
    device = memory.bank.device

    def build(folder: Path) -> None:
        def found() -> Iterator[np.ndarray]:
            for start in range(0, len(tokens.rows), BATCH):
                part = slice(start, start + BATCH)
                values, rows = torch.from_numpy(tokens.values[part]).to(device), torch.from_numpy(tokens.rows[part]).to(device)
                yield memory.search(values, k, rows).indices.int().cpu().numpy()

        write_array(folder / "neighbours.npy", len(tokens.rows), found())

    def read(folder: Path) -> np.ndarray | None:
        found = map_array(folder / "neighbours.npy")
        return found if found is not None and len(found) == len(tokens.rows) else None

    return data.compute_once("neighbours", {**key, "bank": memory.digest(), "k": k}, read, build)


class Store:
    """Tokens of the training images and their nearest ones, by row."""

    def __init__(self, tokens: Tokens, neighbours: np.ndarray) -> None:
        self._values, self._neighbours = tokens.values, neighbours
        self._at = {int(row): i for i, row in enumerate(tokens.rows)}

    def get(self, rows: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
        """Tokens ``(B, h, w, d)`` and places in the memory ``(B, h, w, k)`` of these images."""
        at = [self._at[row] for row in rows.tolist()]
        return torch.from_numpy(self._values[at]).to(device), torch.from_numpy(self._neighbours[at]).to(device).long()


def check_memory(tokens: int, dims: int, ratio: float, device: torch.device) -> None:
    """Refuse a memory that does not fit, before any work.

    Args:
        tokens: good tokens in all.
        dims: d.
        ratio: share of them that is to be held.
        device: where it is chosen and searched.

    Raises:
        JobError: it does not fit; with the ratio that would.
    """
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    choosing = tokens * (min(PROJECTED, dims) * 4 + 4 * 4)  # projected tokens, their squares, distances, and two of new ones
    each = dims * (2 + 2)  # halves, and a copy while it is filled
    needed = choosing + bank_size(tokens, ratio) * each
    if needed <= USABLE * free:
        return
    most = (USABLE * free - choosing) / (tokens * each)
    got = f"params.coreset: got {ratio} of {tokens:,} tokens, which needs {needed / 2**20:,.0f} MiB of {free / 2**20:,.0f} free"
    todo = f"choose at most {_floor(most)}" if most > 0 else "choose a smaller data.image_size, or train on fewer good images"
    raise JobError(f"{got}; {todo}")


def _floor(value: float) -> str:
    """Two digits, rounded down."""
    scale = 10.0 ** (1 - math.floor(math.log10(value)))
    return f"{math.floor(value * scale) / scale:.2g}"


def _batches(data: TrainingImages) -> Iterator[Batch]:
    yield from data.normal(BATCH)
    yield from data.anomalous(BATCH)
