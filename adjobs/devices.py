"""All that adjobs asks of GPUs: which there are, their memory, copies beside the computation, and work that is captured once.

Nothing else in the package calls ``torch.cuda``. On processors every function does what is right there, or nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import psutil
import torch
from torch import Generator, Tensor


def automatic_device(allow_gpu: bool = True) -> torch.device:
    """A GPU where there is one and it may be used, else the processor."""
    return torch.device("cuda" if allow_gpu and torch.cuda.is_available() else "cpu")


def gpu_names() -> list[str]:
    """The names under which PyTorch knows the GPUs that this process sees, such as ``cuda:0``."""
    return [f"cuda:{index}" for index in range(torch.cuda.device_count())]


def is_gpu(device: torch.device) -> bool:
    """Whether work is queued on the device while the process goes on."""
    return device.type == "cuda"


def use(device: torch.device) -> None:
    """Make a GPU that of all work which names none."""
    if is_gpu(device):
        torch.cuda.set_device(device)


def gpu_in_use() -> torch.device | None:
    """The GPU that this process computes on already; None where it would have to start to."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_initialized() else None  # type: ignore[no-untyped-call]


def computes_bfloat16(device: torch.device) -> bool:
    """Whether it is a GPU that computes in bfloat16."""
    return is_gpu(device) and torch.cuda.is_bf16_supported()


def set_tf32(allowed: bool) -> None:
    """Let GPUs round the inputs of float32 convolutions to 10 bits of mantissa, as PyTorch does unless it is told not to.

    Matrix products stay exact in either case: Mahalanobis distances divide by small variances.
    """
    torch.backends.cudnn.allow_tf32 = allowed


# Memory.


def free_bytes(device: torch.device) -> int:
    """Free memory: of a GPU with what PyTorch keeps and does not use, or of the machine."""
    if not is_gpu(device):
        return int(psutil.virtual_memory().available)
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + unused


def peak_reserved_bytes(device: torch.device) -> int:
    """What PyTorch took of a GPU at most since the last reset, without the CUDA context."""
    return torch.cuda.max_memory_reserved(device)


def peak_allocated_bytes(device: torch.device) -> int:
    """What tensors took of a GPU at most since the last reset."""
    return torch.cuda.max_memory_allocated(device)


def release_cached_memory(device: torch.device) -> None:
    """Give back what PyTorch keeps of a GPU for later, and reset the peaks."""
    if is_gpu(device):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def memory_of_libraries(device: torch.device) -> tuple[int, int]:
    """Bytes of a GPU, and those that a process takes beside its tensors once it computes."""
    images = torch.zeros(1, 8, 8, 8, device=device)
    torch.conv2d(images, images).flatten() @ images.flatten()[:1]  # loads the libraries of convolutions and products
    torch.cuda.synchronize(device)
    free, total = torch.cuda.mem_get_info(device)
    return total, total - free - torch.cuda.memory_reserved(device)


# Copies.


def host_buffer(size: int, device: torch.device) -> Tensor:
    """``(size,)`` uint8 of main memory from which copies to the device need not wait; PyTorch reuses it when they are done."""
    return torch.empty(size, dtype=torch.uint8, pin_memory=is_gpu(device))


class Upload:
    """A host buffer on its way to a device, on a stream of its own.

    Args:
        buffer: from `host_buffer`; on a processor it is used as it is.
        device: where it goes.
        stream: from `side_stream`.
    """

    def __init__(self, buffer: Tensor, device: torch.device, stream: Any) -> None:
        self._buffer, self._event = buffer, None
        if stream is not None:
            with torch.cuda.stream(stream):
                self._buffer = buffer.to(device, non_blocking=True)
                self._event = stream.record_event()

    def result(self) -> Tensor:
        """The buffer on the device; work that is queued from now on waits for the copy, the process does not."""
        if self._event is not None:
            stream = torch.cuda.current_stream(self._buffer.device)
            stream.wait_event(self._event)
            self._buffer.record_stream(stream)
        return self._buffer


def side_stream(device: torch.device) -> Any:
    """A stream for copies beside the computation; None on a processor."""
    return _new_stream(device) if is_gpu(device) else None


# Captured work.


class Captured(Protocol):
    """Work that was recorded once and is repeated on the same tensors."""

    def replay(self) -> None:
        """Do the work again, with what the tensors hold now."""
        ...


class Capturer(Protocol):
    """Records work without doing it."""

    def warm_up(self, work: Callable[[], None]) -> str | None:
        """Do the work as it is done before it is captured; returns why it cannot be captured, or None if it can."""
        ...

    def capture(self, work: Callable[[], None], generators: Sequence[Generator] = ()) -> Captured:
        """Record the work; ``generators`` are those that it draws from, which may be seeded between two replays."""
        ...


@dataclass
class CudaGraphs:
    """Captures work on a GPU as CUDA graphs, which share their memory, since no two run at a time.

    Attributes:
        device: the GPU.
    """

    device: torch.device

    def __post_init__(self) -> None:
        self._pool: Any = None
        self._stream = _new_stream(self.device)

    def warm_up(self, work: Callable[[], None]) -> str | None:
        """On the stream that captures. What waits for the GPU cannot be captured, and PyTorch can say so beforehand."""
        self._stream.wait_stream(torch.cuda.current_stream(self.device))
        before = torch.cuda.get_sync_debug_mode()
        with torch.cuda.stream(self._stream), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                work()
            finally:
                torch.cuda.set_sync_debug_mode(before)
        torch.cuda.current_stream(self.device).wait_stream(self._stream)
        waits = [each for each in caught if "synchronizing" in str(each.message)]
        return f"it waits for the GPU ({waits[0].filename}:{waits[0].lineno})" if waits else None

    def capture(self, work: Callable[[], None], generators: Sequence[Generator] = ()) -> Captured:
        """As one graph."""
        graph = torch.cuda.CUDAGraph()
        for generator in generators:
            graph.register_generator_state(generator)
        # Only calls of this thread may break the capture: another one is copying the next batches.
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            work()
        self._pool = graph.pool()
        return graph


def capturer(device: torch.device) -> Capturer | None:
    """What captures work on the device; None on a processor, where launching an operation costs nothing."""
    return CudaGraphs(device) if is_gpu(device) else None


def _new_stream(device: torch.device) -> Any:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
