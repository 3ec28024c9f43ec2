"""What is checked of a job before it is queued, and which jobs are equal."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from adjobs import methods
from adjobs.comparison.config import parse_comparison
from adjobs.config import resolve
from adjobs.config.job import JobConfig
from adjobs.data.open import INSTALLED
from adjobs.errors import ClusterError, DataError, JobError, one_line
from adjobs.queue.folder import JobSpec
from adjobs.queue.ray_jobs import Cluster
from adjobs.queue.recent import Recent
from adjobs.retraining.config import parse_retraining
from adjobs.storage import open_store
from adjobs.storage.base import disk_errors
from adjobs.training.resources import Growth, fit_resources
from adjobs.tuning.objective import parse_objectives
from adjobs.tuning.space import parse_space
from adjobs.versioning.dataset import VersionedDataset

Nodes = Sequence[Mapping[str, float]]
"""The resources of each node of a cluster."""

NODES_SECONDS = 5.0
"""For which the cluster's nodes are not listed again."""

DATA_SECONDS, DATA_SHARE = 5.0, 20.0
"""For which files of data are not listed again: so many times the seconds that it took, but not longer than these."""


class Admission:
    """Checks jobs; what it must ask of Ray's head and of the storage of the data it keeps for a few seconds."""

    def __init__(self, cluster: Cluster, growth: Growth | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """Without asking.

        Args:
            cluster: where the jobs will run.
            growth: how far it may grow; None: it has what it has now.
            clock: in seconds.
        """
        self._cluster, self._growth = cluster, growth
        self._nodes: Recent[None, Nodes | None] = Recent(lambda _: NODES_SECONDS, clock)
        self._versions: Recent[str, str] = Recent(lambda took: min(DATA_SECONDS, DATA_SHARE * took), clock)

    def admit(self, spec: JobSpec) -> str:
        """Check a job as far as it can be without reading its images.

        Returns:
            A key that equal jobs with equal data share.

        Raises:
            JobError: the job or its search space is wrong, or the cluster can never give what it asks for.
            DataError: its data do not exist where the dispatcher looks.
        """
        return admit(spec, self.nodes(), self.data_version)

    def nodes(self) -> Nodes | None:
        """What the cluster has or may have; None if its head does not answer, and then jobs may wait for it."""
        return self._nodes.get(None, self._find_nodes)

    def data_version(self, job: JobConfig) -> str:
        """See :func:`data_version`."""
        return self._versions.get(job.data.uri, lambda: data_version(job))

    def _find_nodes(self) -> Nodes | None:
        try:
            nodes = self._cluster.nodes()
        except ClusterError:
            return None if self._growth is None else self._growth.grown([])
        return nodes if self._growth is None else self._growth.grown(nodes)


def admit(spec: JobSpec, nodes: Nodes | None, find_version: Callable[[JobConfig], str] | None = None) -> str:
    """As :meth:`Admission.admit`, on a cluster with these nodes; None: they are unknown."""
    if spec.verb == "retrain":
        return _admit_retraining(spec, nodes)
    if spec.verb == "compare":
        return _admit_comparison(spec, nodes, find_version or data_version)
    has_method = spec.working_dir is None or spec.document.get("method") in methods.names()
    check = resolve.resolve if has_method else resolve.resolve_without_method  # that is in the working directory
    job = check(spec.document, source=f"job '{spec.name}'")
    if spec.verb == "tune":
        _check_search(spec, job, has_method=has_method)
    elif spec.space is not None or spec.options is not None:
        raise JobError(f"job '{spec.name}': got a search space or options of a search for a training; submit it as a search")
    data = (find_version or data_version)(job)
    if nodes is not None:
        _check_resources(job, nodes)
    return _key(spec, [spec.verb, job.model_dump(mode="json"), spec.space, spec.options, spec.working_dir, data])


def _admit_comparison(spec: JobSpec, nodes: Nodes | None, find_version: Callable[[JobConfig], str]) -> str:
    config = parse_comparison(spec.document, source=f"job '{spec.name}'")
    if spec.space is not None or spec.options is not None or spec.working_dir is not None:
        raise JobError(f"job '{spec.name}': a comparison takes no search space, options of a search or working directory")
    job = config.first_job
    data = find_version(job)
    if nodes is not None:
        _check_resources(job, nodes)
    return _key(spec, [spec.verb, config.model_dump(mode="json"), data])


def _admit_retraining(spec: JobSpec, nodes: Nodes | None) -> str:
    config = parse_retraining(spec.document, source=f"job '{spec.name}'")
    if spec.space is not None or spec.options is not None or spec.working_dir is not None:
        raise JobError(f"job '{spec.name}': a retraining takes no search space, options of a search or working directory")
    try:
        VersionedDataset.open(config.dataset)
    except DataError as error:
        raise DataError(f"job '{spec.name}', seen from the queue's machine: {error}") from error
    if nodes is not None:
        _check_resources(config.training_job(), nodes)
    _key(spec, [])
    return retraining_key(config.model)


def retraining_key(model: str) -> str:
    """The key of a retraining: of one model, one lives at a time, whatever else its file says."""
    return hashlib.sha256(json.dumps(["retrain", model]).encode()).hexdigest()


def _key(spec: JobSpec, identity: list[Any]) -> str:
    """A key of what makes jobs equal; refuses what cannot be stored."""
    try:
        # Python reads JSON that it does not write, such as NaN and half of a character.
        json.dumps(spec.to_dict(), allow_nan=False, ensure_ascii=False).encode()
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    except (ValueError, RecursionError) as error:
        problem = f"a value cannot be stored as JSON ({one_line(error)})"
        raise JobError(f"job '{spec.name}': {problem}; use finite numbers and plain text") from error


def _check_resources(job: JobConfig, nodes: Nodes) -> None:
    try:
        fit_resources(job.train, nodes)
    except ClusterError as error:  # of this job, not of the cluster
        raise JobError(str(error)) from error


def _check_search(spec: JobSpec, job: JobConfig, *, has_method: bool) -> None:
    if spec.space is None:
        raise JobError(f"job '{spec.name}': a search needs a space; give --space FILE")
    if has_method:
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
            entries = _files(path) if path.is_dir() else []
    if not entries:
        raise DataError(f"data '{uri}': nothing is there, seen from the queue's machine; use s3://, or a path that it shares")
    return hashlib.sha256(json.dumps(sorted(entries)).encode()).hexdigest()


def _files(root: Path) -> list[list[Any]]:
    """Path, size and time of each file below a folder; links to folders are not followed."""
    entries, folders = [], [(str(root), "")]
    while folders:
        folder, prefix = folders.pop()
        with os.scandir(folder) as children:
            for child in children:
                if child.is_dir(follow_symlinks=False):
                    folders.append((child.path, f"{prefix}{child.name}/"))
                elif child.is_file():
                    status = child.stat()
                    entries.append([prefix + child.name, status.st_size, status.st_mtime_ns])
    return entries
