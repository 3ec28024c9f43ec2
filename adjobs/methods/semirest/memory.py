"""The memory bank: a coreset of the tokens of normal images, searched for nearest neighbours."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from adjobs import devices
from adjobs.errors import JobError
from adjobs.nn.neighbours import Neighbours, nearest_neighbours

PROJECTED_DIMS = 128  # in which the coreset is selected
USABLE_FRACTION = 0.8  # of the free memory


class MemoryBank(nn.Module):
    """Position-constrained tokens of normal images.

    Both buffers are part of the state, and loading a state resizes them.

    Attributes:
        tokens: ``(M, d)``, half precision.
        image_indices: ``(M,)`` int64, the image that each token is from.
    """

    tokens: Tensor
    image_indices: Tensor

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.register_buffer("tokens", torch.empty(0, dims, dtype=torch.half))
        self.register_buffer("image_indices", torch.empty(0, dtype=torch.long))

    def set_tokens(self, tokens: Tensor, image_indices: Tensor) -> None:
        """Replace the content of the memory bank."""
        self.tokens, self.image_indices = tokens.to(self.tokens), image_indices.to(self.image_indices)

    def search(self, tokens: Tensor, k: int, image_indices: Tensor | None = None) -> Neighbours:
        """Find the k nearest neighbours of each token.

        Args:
            tokens: ``(B, h, w, d)``.
            k: at most M.
            image_indices: ``(B,)``, to exclude matches within an image; None for images that are not in the memory bank. Where
                fewer than k tokens are from other images, the nearest one is repeated.

        Returns:
            Distances and indices into the memory bank, both ``(B, h, w, k)``, nearest first.
        """
        flat = tokens.flatten(0, 2)
        query_images, bank_images = None, None
        if image_indices is not None:
            query_images, bank_images = image_indices.repeat_interleave(tokens[0, ..., 0].numel()), self.image_indices
        # Without autocast: bfloat16 would confuse near neighbours, and cached matches were searched without it.
        with torch.autocast(self.tokens.device.type, enabled=False):
            neighbours = nearest_neighbours(flat, self.tokens, k, query_groups=query_images, bank_groups=bank_images)
        indices = torch.where(neighbours.distances.isinf(), neighbours.indices[:, :1], neighbours.indices)
        return Neighbours(*(values.view(*tokens.shape[:3], k) for values in (neighbours.distances, indices)))

    def residuals(self, tokens: Tensor, indices: Tensor) -> Tensor:
        """f⁺ − m⁺, signed, at least in float32, of ``(…, d)`` tokens and ``(…)`` indices into the memory bank."""
        dtype = torch.promote_types(self.tokens.dtype, torch.float32)
        return tokens.to(dtype) - self.tokens[indices].to(dtype)

    def digest(self) -> str:
        """SHA-256 of the content."""
        digest = hashlib.sha256()
        for values in (self.tokens, self.image_indices):
            digest.update(values.cpu().contiguous().numpy().data)
        return digest.hexdigest()

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        stored = [state_dict.get(prefix + name) for name in ("tokens", "image_indices")]
        lengths = {len(values) for values in stored if values is not None and values.ndim}
        if len(lengths) == 1:  # otherwise the buffers keep their sizes, and torch reports the mismatch
            (length,) = lengths
            self.tokens = self.tokens.new_empty(length, self.tokens.shape[1])
            self.image_indices = self.image_indices.new_empty(length)
        super()._load_from_state_dict(state_dict, prefix, *args)


def bank_size(token_count: int, ratio: float) -> int:
    """Number of tokens in the memory bank."""
    return max(1, round(ratio * token_count))


def check_bank_fits(token_count: int, dims: int, ratio: float, device: torch.device) -> None:
    """Reject a memory bank that does not fit into memory, before any work.

    Args:
        token_count: tokens of all normal training images.
        dims: d.
        ratio: fraction of them that is kept.
        device: on which the coreset is selected and searched.

    Raises:
        JobError: it does not fit; the message names the largest ratio that does.
    """
    free = devices.free_bytes(device)
    # Per token: the projection, and in float32 its square, its distance, and temporaries of both.
    selection_bytes = token_count * (min(PROJECTED_DIMS, dims) * 4 + 4 * 4)
    bytes_per_entry = dims * (2 + 2)  # half precision, and a copy while the bank is filled
    needed = selection_bytes + bank_size(token_count, ratio) * bytes_per_entry
    if needed <= USABLE_FRACTION * free:
        return
    max_ratio = (USABLE_FRACTION * free - selection_bytes) / (token_count * bytes_per_entry)
    if max_ratio > 0:
        advice = f"choose at most {_floor_two_digits(max_ratio)}"
    else:
        advice = "choose a smaller data.image_size, or train on fewer normal images"
    raise JobError(
        f"params.coreset_ratio: got {ratio} of {token_count:,} tokens, which needs {needed / 2**20:,.0f} MiB of "
        f"{free / 2**20:,.0f} MiB free; {advice}"
    )


def _floor_two_digits(value: float) -> str:
    """Two significant digits, rounded down."""
    scale = 10.0 ** (1 - math.floor(math.log10(value)))
    return f"{math.floor(value * scale) / scale:.2g}"
