"""What is checked of a job before it is queued, and which jobs are equal."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adjobs.config import resolve
from adjobs.config.job import JobConfig
from adjobs.data.open import INSTALLED
from adjobs.errors import DataError, JobError, one_line
from adjobs.queue.folder import JobSpec
from adjobs.storage import open_store
from adjobs.storage.base import disk_errors
from adjobs.training.resources import fit_resources
from adjobs.tuning.objective import parse_objectives
from adjobs.tuning.space import parse_space

Nodes = Sequence[Mapping[str, float]]
"""The resources of each node of a cluster."""


def admit(spec: JobSpec, nodes: Nodes | None) -> str:
    """Check a job as far as it can be without reading its images.

    Args:
        spec: the job.
        nodes: what the cluster has; None if its head does not answer, and then the job may wait for it.

    Returns:
        A key that equal jobs with equal data share.

    Raises:
        JobError: the job or its search space is wrong.
        DataError: its data do not exist where the dispatcher looks.
        ClusterError: the cluster can never give what it asks for.
    """
    job = resolve.resolve(spec.document, source=f"job '{spec.name}'")
    if spec.verb == "tune":
        _check_search(spec, job)
    elif spec.space is not None or spec.options is not None:
        raise JobError(f"job '{spec.name}': got a search space or options of a search for a training; submit it as a search")
    data = data_version(job)
    if nodes is not None:
        fit_resources(job.train, nodes)
    identity = [spec.verb, job.model_dump(mode="json"), spec.space, spec.options, spec.working_dir, data]
    try:
        # Python reads JSON that it does not write, such as NaN and half of a character.
        json.dumps(spec.to_dict(), allow_nan=False, ensure_ascii=False).encode()
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    except (ValueError, RecursionError) as error:
        problem = f"a value cannot be stored as JSON ({one_line(error)})"
        raise JobError(f"job '{spec.name}': {problem}; use finite numbers and plain text") from error


def _check_search(spec: JobSpec, job: JobConfig) -> None:
    if spec.space is None:
        raise JobError(f"job '{spec.name}': a search needs a space; give --space FILE")
    parse_space(spec.space, f"space of job '{spec.name}'").check(job)
    parse_objectives((spec.options or {}).get("metrics", ()), job)
    if job.track is None:
        raise JobError(f"job '{spec.name}': track: got none, a search is recorded in MLflow; remove the key")


def data_version(job: JobConfig) -> str:
    """What changes when the files of a job's data do, found without reading them.

    Raises:
        DataError: there are none.
    """
    uri = job.data.uri
    if uri == INSTALLED:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version("elpv-dataset")
        raise DataError("data 'elpv': the package elpv-dataset is not installed on the queue's machine; install it there")
    if uri.startswith("s3://"):
        entries = [[entry.key, entry.size, entry.etag] for entry in open_store(uri).list()]
    else:
        path = Path(uri.removeprefix("file://"))
        with disk_errors("list", path):
            entries = _files(path)
    if not entries:
        raise DataError(f"data '{uri}': nothing is there, seen from the queue's machine; use s3://, or a path that it shares")
    return hashlib.sha256(json.dumps(sorted(entries)).encode()).hexdigest()


def _files(folder: Path) -> list[list[Any]]:
    files = ((path, path.stat()) for path in folder.rglob("*") if path.is_file())
    return [[path.relative_to(folder).as_posix(), status.st_size, status.st_mtime_ns] for path, status in files]
