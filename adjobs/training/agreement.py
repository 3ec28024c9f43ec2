"""Errors that the workers of a job agree on, so that none waits for one that has failed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from adjobs.errors import AdjobsError

MAX_BYTES = 4096  # of an error that is exchanged


class AgreedError(Exception):
    """An error that every worker of the job raises at the same place.

    Attributes:
        error: that of this worker, or of the first one that failed.
    """

    def __init__(self, error: AdjobsError) -> None:
        super().__init__(str(error))
        self.error = error


@contextmanager
def agreed_errors(device: torch.device) -> Iterator[None]:
    """A block that ends alike on all workers: an error that one of them finds is raised by all.

    Without that, the others would wait in their next exchange for the one that failed. The block itself must exchange nothing.

    Args:
        device: of this worker, from which its backend sends.

    Raises:
        AgreedError: one of several workers found an error. A single worker raises its errors as they are.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        yield
        return
    own: AdjobsError | None = None
    try:
        yield
    except AdjobsError as error:
        own = error
    errors = [_decode(text) for text in _gather(_encode(own), device) if text]
    if errors:
        raise AgreedError(own or errors[0]) from own


def any_worker(flag: bool, device: torch.device) -> bool:
    """Whether any worker says so; every worker calls this and gets the same answer.

    Args:
        flag: what this worker says.
        device: of this worker, from which its backend sends.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return flag
    answer = torch.tensor([int(flag)], dtype=torch.int32, device=device)
    dist.all_reduce(answer, dist.ReduceOp.MAX)
    return bool(answer.item())


def _gather(text: bytes, device: torch.device) -> list[bytes]:
    """The texts of all workers, by rank."""
    sent = torch.zeros(MAX_BYTES, dtype=torch.uint8)
    sent[: len(text)] = torch.tensor(list(text), dtype=torch.uint8)
    sent = sent.to(device)
    received = [torch.empty_like(sent) for _ in range(dist.get_world_size())]
    dist.all_gather(received, sent)
    return [bytes(tensor.tolist()).rstrip(b"\0") for tensor in received]


def _encode(error: AdjobsError | None) -> bytes:
    return b"" if error is None else f"{type(error).__name__}\n{error}".encode()[:MAX_BYTES]


def _decode(text: bytes) -> AdjobsError:
    name, _, message = text.decode(errors="ignore").partition("\n")
    return next((kind for kind in _kinds(AdjobsError) if kind.__name__ == name), AdjobsError)(message)


def _kinds(kind: type[AdjobsError]) -> Iterator[type[AdjobsError]]:
    yield kind
    for sub in kind.__subclasses__():
        yield from _kinds(sub)
