"""A running embedded stack for tests of what uses it."""

from __future__ import annotations

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
    """A free block of ports below those that the system gives to outgoing connections."""
    blocks = list(range(20000, 22700, 30))
    for base in random.sample(blocks, len(blocks)):
        try:
            processes.check_ports({title: base + offset for title, offset in OFFSETS.items()})
        except StackError:
            continue
        return base
    raise AssertionError("no free block of ports")


@pytest.fixture(scope="session")
def stack() -> Iterator[dict[str, Any]]:
    """The state of a stack that runs until the end of the session, and its ``home``. It has two CPUs.

    The environment is left alone, because tests of other folders run in it, too: see ``stack_env``.
    """
    from adjobs.stack import lifecycle

    home = tempfile.mkdtemp(prefix="adjobs-", dir="/tmp")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADJOBS_HOME", home)
        try:
            state = lifecycle.up(free_port_base(), cpus=2)
        except BaseException:
            shutil.rmtree(home)
            raise
    yield {**state, "home": home}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADJOBS_HOME", home)
        before = processes.of_stack(state["id"])
        lifecycle.down()
    assert len(before) > 10
    assert not [process for process in before if processes.is_alive(process)]
    assert not processes.of_stack(state["id"])
    shutil.rmtree(home)


@contextmanager
def client_of(stack: dict[str, Any]) -> Iterator[None]:
    """The environment of a client of the stack, for fixtures of a whole module."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (stack["environment"] | {"ADJOBS_HOME": stack["home"]}).items():
            patch.setenv(name, value)
        yield


@pytest.fixture
def stack_env(stack: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of the stack's clients, set for one test; ``ADJOBS_HOME`` and an own cache among it."""
    environment = stack["environment"] | {"ADJOBS_HOME": stack["home"], "ADJOBS_CACHE": str(Path(stack["home"], "cache"))}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return environment
