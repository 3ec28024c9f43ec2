"""Work that is recorded once and repeated on the same tensors, on a processor: what a CUDA graph does on a GPU.

An operation is repeated with the arguments that it had, Python's values among them, and its result is written where the first one
was. So a step that depends on anything but the contents of its tensors goes wrong here as it would there, and one that reads
a value, or makes a shape of one, cannot be recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Generator, Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
READS_VALUES = {aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default, aten.equal.default}


class _Recorder(TorchDispatchMode):
    """Records operations while they are done, and what their tensors held before."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []
        self.before: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.is_inference_mode_enabled():  # there operations that are made of others arrive whole
            with self:
                whole = func.decompose(*args, **(kwargs or {}))
            if whole is not NotImplemented:
                return whole
        refuse_values(func, args)
        for argument, value in zip(func._schema.arguments, args, strict=False):
            is_written = argument.alias_info is not None and argument.alias_info.is_write
            for tensor in tree_leaves(value):
                # Batch normalisation changes its running statistics without saying so.
                if isinstance(tensor, Tensor) and (is_written or argument.name in ("running_mean", "running_var")):
                    self.before.setdefault(id(tensor), (tensor, tensor.detach().clone()))
        result = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, result))
        return result


def refuse_values(func: Any, args: Sequence[Any]) -> None:
    """Raise what CUDA raises while it captures."""
    by_mask = func in (aten.index.Tensor, aten.index_put_.default, aten.index_put.default) and any(
        isinstance(index, Tensor) and index.dtype == torch.bool for index in args[1]
    )
    if by_mask or func in READS_VALUES:
        raise RuntimeError(f"operation not permitted when stream is capturing: {func}\nmore of the message")


class Recorded:
    """Recorded operations."""

    def __init__(self, operations: Sequence[tuple[Any, tuple[Any, ...], dict[str, Any], Any]]) -> None:
        self.operations = operations

    @torch.no_grad()
    def replay(self) -> None:
        """Do them again."""
        for func, args, kwargs, result in self.operations:
            returns = func._schema.returns
            if returns and all(each.alias_info is not None and not each.alias_info.is_write for each in returns):
                continue  # a view shows what its base holds now
            again = func(*args, **kwargs)
            if not any(each.alias_info is not None for each in returns):
                for target, value in zip(tree_leaves(result), tree_leaves(again), strict=True):
                    if isinstance(target, Tensor):
                        target.detach().copy_(value)


class RecordingCapturer:
    """Captures work on a processor; ``refuses`` makes it find that it cannot."""

    def __init__(self, refuses: bool = False) -> None:
        self.refuses, self.captures = refuses, 0

    def warm_up(self, work: Callable[[], None]) -> str | None:
        """Do the work."""
        work()
        return "it was told so" if self.refuses else None

    def capture(self, work: Callable[[], None], generators: Sequence[Generator] = ()) -> Recorded:
        """Do the work, and undo it."""
        states, common = [generator.get_state() for generator in generators], torch.get_rng_state()
        recorder = _Recorder()
        try:
            with recorder:
                work()
        finally:
            with torch.no_grad():
                for tensor, before in recorder.before.values():
                    tensor.detach().copy_(before)
            for generator, state in zip(generators, states, strict=True):
                generator.set_state(state)
            torch.set_rng_state(common)
        self.captures += 1
        return Recorded(recorder.operations)
