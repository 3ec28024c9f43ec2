"""What ``adjobs submit`` says before it sends anything."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from adjobs.cli.jobs.text import age
from adjobs.queue.ignoring import OWN_FILE
from adjobs.queue.packing import WorkingDir, size_text
from adjobs.version import __version__


def version_warnings(queue: Mapping[str, Any]) -> Iterator[str]:
    """Where versions differ between here and the cluster so far that a job may not run there as here."""
    local = {"adjobs": __version__, "Python": platform.python_version(), "Ray": importlib.metadata.version("ray")}
    remote = {"adjobs": queue["version"], "Python": queue["python"], "Ray": queue["ray"]}
    for name, digits in (("adjobs", 3), ("Python", 2), ("Ray", 1)):
        ours, theirs = local[name], remote[name]
        if theirs is not None and ours.split(".")[:digits] != theirs.split(".")[:digits]:
            yield f"{name} is {ours} here and {theirs} on the cluster, where the jobs run; use the same version"


def upload_lines(directory: WorkingDir) -> Iterator[str]:
    """What is uploaded, and what is left out because it may be a secret."""
    count = len(directory.files)
    largest = f" (largest: {directory.largest()})" if count else ""
    yield f"working directory {directory.root}: {count} file{'s' * (count != 1)}, {size_text(directory.size)}{largest}"
    if directory.secrets:
        names = ", ".join(directory.secrets[:5]) + (f" and {len(directory.secrets) - 5} more" if directory.secrets[5:] else "")
        yield f"warning: left out, because they may be secrets: {names}; if a job needs one, name it in {OWN_FILE} as '!NAME'"


def queue_lines(files: Sequence[Path], queue: Mapping[str, Any]) -> Iterator[str]:
    """What the jobs will take, as far as equal ones are done, and when the first may start; nothing of an empty queue."""
    for file, job in zip(files, queue["jobs"], strict=True):
        if job["estimate"] is not None:
            yield f"{file}: {_estimate_text(job['estimate'])}"
    if queue["position"] > 1:
        seconds = queue["starts_in_s"]
        start = "" if seconds is None else f"; the first may start in about {age(seconds)}" if seconds else "; a slot is free"
        yield f"jobs ahead in the queue: {queue['position'] - 1}{start}"
    elif queue["starts_in_s"]:
        yield f"the first may start in about {age(queue['starts_in_s'])}"


def _estimate_text(estimate: Mapping[str, Any]) -> str:
    """Words for an estimate.

    >>> _estimate_text({"jobs": 2, "seconds": 840.0, "memory_mib": 3072.0, "gpu_memory_mib": None})
    'took 14 min and 3.2 GB of memory (2 equal jobs)'
    """
    terms = [age(estimate["seconds"])]
    for key, of_what in (("memory_mib", "memory"), ("gpu_memory_mib", "GPU memory")):
        if estimate[key]:
            terms.append(f"{size_text(estimate[key] * 2**20)} of {of_what}")
    listed = terms[0] if len(terms) == 1 else f"{', '.join(terms[:-1])} and {terms[-1]}"
    count = "an equal job" if estimate["jobs"] == 1 else f"{estimate['jobs']} equal jobs"
    return f"took {listed} ({count})"
