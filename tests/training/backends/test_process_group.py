"""The process group of the workers: who can reach it."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
import torch.distributed as dist

from adjobs.stack.probes import Exposure, check_listeners
from adjobs.training.backends import process_group
from adjobs.training.backends.process_group import LOOPBACK, ProcessGroupConfig, interface_of, join_group, leave_group, open_store

TIMEOUT = 60.0


def work(rank: int, pipe: Any) -> None:
    """One of two workers."""
    if rank == 0:
        pipe.send(open_store(2, TIMEOUT, LOOPBACK))
    join_group("gloo", pipe.recv(), rank, 2, TIMEOUT, LOOPBACK)
    total = torch.tensor([rank + 1.0])
    dist.all_reduce(total)
    listening = [one for one in psutil.Process().net_connections("tcp") if one.status == psutil.CONN_LISTEN]
    (addresses, _) = check_listeners([psutil.Process()])
    pipe.send((total.item(), len(listening), addresses.exposure))
    pipe.recv()  # the other has seen the same
    leave_group()
    pipe.send((dist.is_initialized(), len(process_group._stores)))


def test_group_of_two_exchanges_and_listens_at_its_address_alone() -> None:
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe() for _ in range(2)]
    workers = [context.Process(target=work, args=(rank, pipes[rank][1]), daemon=True) for rank in range(2)]
    for worker in workers:
        worker.start()
    ours = [pipe[0] for pipe in pipes]
    address = ours[0].recv()
    for pipe in ours:
        pipe.send(address)
    seen = [pipe.recv() for pipe in ours]
    for pipe in ours:
        pipe.send(None)
    left = [pipe.recv() for pipe in ours]
    for worker in workers:
        worker.join(TIMEOUT)
    assert seen == [(3.0, 2, Exposure.CLOSED), (3.0, 1, Exposure.CLOSED)]  # the store and Gloo; Gloo
    assert left == [(False, 0)] * 2
    assert [worker.exitcode for worker in workers] == [0, 0]


def test_one_worker_has_no_group() -> None:
    class Workers:
        def __len__(self) -> int:
            return 1

        def __getattr__(self, name: str) -> Any:
            raise AssertionError(f"{name} was called")

    config = ProcessGroupConfig()
    config.backend_cls().on_start(Workers(), config)


def test_module_is_read_without_pytorch() -> None:
    """By Ray Train's controller, which every training waits for."""
    code = f"import sys, {process_group.__name__}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_interface_of_an_address_is_that_which_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = {
        "lo": [SimpleNamespace(address="127.0.0.1"), SimpleNamespace(address="::1")],
        "eth0": [SimpleNamespace(address="192.0.2.7"), SimpleNamespace(address="fe80::7%eth0")],
    }
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: addresses)
    hosts = ("127.0.0.1", "127.0.0.12", "::1", "192.0.2.7", "fe80::7", "198.51.100.1")
    assert [interface_of(host) for host in hosts] == ["lo", "lo", "lo", "eth0", "eth0", None]


def test_interface_that_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "mine")
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "")
    monkeypatch.delenv("NCCL_SOCKET_IFNAME")
    joined: dict[str, Any] = {}
    monkeypatch.setattr(dist, "init_process_group", lambda backend, **options: joined.update(options, backend=backend))
    monkeypatch.setattr(dist, "TCPStore", lambda *arguments: arguments)
    join_group("gloo", (LOOPBACK, 1), 1, 2, TIMEOUT, LOOPBACK)
    assert (os.environ["GLOO_SOCKET_IFNAME"], os.environ["NCCL_SOCKET_IFNAME"]) == ("mine", interface_of(LOOPBACK))
    assert (joined["rank"], joined["world_size"], joined["store"][:2]) == (1, 2, (LOOPBACK, 1))
