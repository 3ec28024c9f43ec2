"""A running embedded stack for tests of what uses it."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from adjobs.errors import StackError
from adjobs.stack import processes
from adjobs.stack.config import OFFSETS


def free_port_base() -> int:
    """First port of a free block, below the ports that the system gives to outgoing connections."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    blocks = list(range(20000, 22700, 30))[worker % 4 :: 4]  # processes of one test run never try the same
    for base in random.sample(blocks, len(blocks)):
        try:
            processes.check_ports({title: base + offset for title, offset in OFFSETS.items()})
        except StackError:
            continue
        return base
    raise AssertionError("no free block of ports")


@pytest.fixture(scope="session")
def stack() -> Iterator[dict[str, Any]]:
    """The record of a stack that runs until the end of the session, and its ``home``. It has two CPUs.

    The environment is not changed, because tests of other folders run in it, too: see ``stack_env``.
    """
    from adjobs.stack import lifecycle

    home = Path(tempfile.mkdtemp(prefix="adjobs-", dir="/tmp"))
    try:
        state = lifecycle.up(home, free_port_base(), cpus=2)
    except BaseException:
        shutil.rmtree(home)
        raise
    yield {**state.to_dict(), "home": str(home)}
    before = processes.stack_processes(state.id)
    lifecycle.down(home)
    assert len(before) > 10
    assert not [process for process in before if processes.is_alive(process)]
    assert not processes.stack_processes(state.id)
    shutil.rmtree(home)


@contextmanager
def client_of(stack: dict[str, Any]) -> Iterator[None]:
    """The environment of a client of the stack, for fixtures of a module's scope."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (stack["environment"] | {"ADJOBS_HOME": stack["home"]}).items():
            patch.setenv(name, value)
        yield


@pytest.fixture
def stack_env(stack: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of a client of the stack for one test, with ``ADJOBS_HOME`` and a cache in it."""
    environment = stack["environment"] | {"ADJOBS_HOME": stack["home"], "ADJOBS_CACHE": str(Path(stack["home"], "cache"))}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return environment
