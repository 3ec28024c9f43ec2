"""Which process drives a run, as its tags say, and whether that process lives."""

from __future__ import annotations

import os
import socket

import psutil


def current_driver() -> str:
    """This process: machine, process id and when it was started, as in the tag ``driver``."""
    return f"{socket.gethostname()}:{os.getpid()}:{psutil.Process().create_time():.0f}"


def living_driver(driver: str) -> int | None:
    """The process id of a driver, if it is a living process of this machine; else None.

    Args:
        driver: as :func:`current_driver` gave it, or any other text.
    """
    host, _, process = driver.partition(":")
    pid, _, created = process.partition(":")
    if host != socket.gethostname() or not pid.isdigit():
        return None
    try:
        return int(pid) if f"{psutil.Process(int(pid)).create_time():.0f}" == created else None
    except psutil.NoSuchProcess:
        return None
