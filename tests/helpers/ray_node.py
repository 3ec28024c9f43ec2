"""A second machine of a Ray cluster, on this one: a node with processes and resources of its own, until it is killed.

The stack's head lets no node join by ``ray start``, since it keeps all of Ray on the loopback address; a node that is made in
Python joins there.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil

from adjobs.stack.processes import STACK_ID

STORE_BYTES = 100 * 2**20


@contextmanager
def joined_node(stack: dict[str, Any], cpus: int) -> Iterator[psutil.Process]:
    """A node of the stack's cluster, alive; its processes are killed afterwards, if they live.

    Yields:
        The process that started it and whose descendants all its processes are.
    """
    own = {"ADJOBS_HOME": stack["home"], STACK_ID: stack["id"], "SPT_NOENV": "1", "RAY_raylet_start_wait_time_s": "120"}
    environment = os.environ | stack["environment"] | own
    address = environment["RAY_ADDRESS"]
    process = subprocess.Popen(
        [sys.executable, "-P", __file__, address, str(cpus)], env=environment, stdout=subprocess.PIPE, text=True
    )
    node = psutil.Process(process.pid)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "joined\n"
        yield node
    finally:
        kill_node(node)
        process.wait()
        process.stdout.close()


def kill_node(node: psutil.Process) -> None:
    """Kill all processes of a node at once, as a loss of power does."""
    if node.is_running() and node.status() != psutil.STATUS_ZOMBIE:
        for one in [*node.children(recursive=True), node]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()


def main(address: str, cpus: str) -> None:
    """Join and stay."""
    from ray._private.node import Node
    from ray._private.parameter import RayParams

    parameters = RayParams(
        gcs_address=address,
        num_cpus=int(cpus),
        num_gpus=0,
        object_store_memory=STORE_BYTES,
        min_worker_port=0,
        max_worker_port=0,
        node_manager_port=0,
        dashboard_agent_listen_port=None,
        include_log_monitor=False,
    )
    Node(parameters, head=False, shutdown_at_exit=False, spawn_reaper=False)
    print("joined", flush=True)
    signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])
