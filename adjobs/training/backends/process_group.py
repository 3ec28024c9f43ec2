"""How the workers of a training on Ray find each other: PyTorch's process group, reachable at the addresses of Ray's nodes alone.

Ray Train's own set-up starts PyTorch's store for the rendezvous, which asks for no credentials, on all addresses of the machine,
for a single worker, too (Ray 2.60, PyTorch 2.15). And Gloo takes the address to which the machine's name resolves, which other
machines may be unable to reach.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psutil
import ray
from ray.train.backend import Backend, BackendConfig

from adjobs.config.environment import EnvironmentVariable, apply

# PyTorch is imported by the workers alone: Ray Train's controller, which reads this module, would take three seconds for it.

LOOPBACK = "127.0.0.1"
INTERFACE_VARIABLES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")  # of PyTorch: the network interface to exchange data on
END_SECONDS = 30.0  # for the workers to leave the group; Ray ends their processes afterwards


@dataclass
class ProcessGroupConfig(BackendConfig):  # type: ignore[misc]
    """The process group of Ray Train's workers; a single worker has none.

    Attributes:
        backend: ``gloo`` or ``nccl``; None: by whether the workers have GPUs.
        timeout_s: seconds that a worker waits for the others.
    """

    backend: str | None = None
    timeout_s: float = 1800.0

    @property
    def backend_cls(self) -> type[Backend]:
        """What sets the group up."""
        return _ProcessGroup

    @property
    def train_func_context(self) -> Callable[[], AbstractContextManager[None]]:
        """What surrounds the training in each worker."""
        return _own_device


@contextmanager
def _own_device() -> Iterator[None]:
    """Make the worker's device that of all which names none."""
    from ray.train.torch import get_device

    from adjobs import devices

    devices.use(get_device())
    yield


class _ProcessGroup(Backend):  # type: ignore[misc]
    """Called by Ray Train in its controller."""

    share_cuda_visible_devices = True

    def on_start(self, worker_group: Any, backend_config: ProcessGroupConfig) -> None:
        size = len(worker_group)
        if size == 1:
            return
        address = worker_group.execute_single(0, open_store, size, backend_config.timeout_s)
        has_gpus = worker_group.get_resources_per_worker().get("GPU", 0) > 0
        backend = backend_config.backend or ("nccl" if has_gpus else "gloo")
        joined = [
            worker_group.execute_single_async(rank, join_group, backend, address, rank, size, backend_config.timeout_s)
            for rank in range(size)
        ]
        ray.get(joined)

    def on_shutdown(self, worker_group: Any, backend_config: ProcessGroupConfig) -> None:
        leaving = worker_group.execute_async(leave_group)
        ray.wait(leaving, num_returns=len(leaving), timeout=END_SECONDS)


_stores: list[Any] = []  # one in the process with rank 0, which serves the others as long as it lives


def open_store(size: int, timeout_s: float, host: str | None = None) -> tuple[str, int]:
    """Open the store for the rendezvous of a group in this process; returns its host and port.

    Args:
        size: number of workers.
        timeout_s: seconds that a worker waits for the others.
        host: address to listen on; None: that of this Ray node.
    """
    import torch.distributed as dist

    host = host or ray.util.get_node_ip_address()
    server = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=size)
    port: int = server.getsockname()[1]
    timeout, listener = timedelta(seconds=timeout_s), server.detach()
    store = dist.TCPStore(host, port, size, True, timeout, wait_for_workers=False, master_listen_fd=listener)  # type: ignore[attr-defined]
    _stores.append(store)
    return host, port


def join_group(
    backend: str, address: tuple[str, int], rank: int, size: int, timeout_s: float, own_host: str | None = None
) -> None:
    """Join the process group with this process; returns when all have.

    Args:
        backend: ``gloo`` or ``nccl``.
        address: of the store, which the process with rank 0 has opened.
        rank: of this process.
        size: number of workers.
        timeout_s: seconds that a worker waits for the others, also in each exchange.
        own_host: address of this process for the others; None: that of this Ray node.
    """
    import torch.distributed as dist

    interface = interface_of(own_host or ray.util.get_node_ip_address())
    if interface is not None:
        apply(os.environ, [EnvironmentVariable(name, interface, "that of the node's address") for name in INTERFACE_VARIABLES])
    timeout = timedelta(seconds=timeout_s)
    store = _stores[-1] if rank == 0 else dist.TCPStore(*address, size, False, timeout)  # type: ignore[attr-defined]
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)


def leave_group() -> None:
    """Leave the process group, if this process is in one."""
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()
    _stores.clear()


def interface_of(host: str) -> str | None:
    """The network interface that has an address; None if none has it, such as an address outside a container.

    >>> interface_of("127.0.0.2") == interface_of("127.0.0.1")
    True
    """
    host = LOOPBACK if host.startswith("127.") else host
    for name, addresses in psutil.net_if_addrs().items():
        if any(address.address.partition("%")[0] == host for address in addresses):
            return name
    return None
