"""Jobs in a working directory: the files that they name are relative to it, here and on the cluster."""

from __future__ import annotations

import os
from pathlib import Path

from adjobs.config.job import JobConfig
from adjobs.data.open import INSTALLED
from adjobs.jobs.prepare import path_values
from adjobs.paths import expand_home


def relative_to(root: Path, job: JobConfig) -> tuple[JobConfig, list[Path]]:
    """The job as it is to run in a working directory.

    Args:
        root: the directory.
        job: the resolved job. Its relative paths start in the directory, or, where nothing is there, in the current folder.

    Returns:
        The job, whose files in the directory are relative to it; paths outside of it, and that of the data, are absolute. And
        the files and folders in the directory that it names, which do not include the data.
    """
    root = _normal(root)
    named: list[Path] = []

    def locate(text: str) -> str:
        path = _find(root, text)
        if path is None or not path.is_relative_to(root):
            return text if path is None else str(path)
        named.append(path)
        return path.relative_to(root).as_posix()

    params = {name: locate(text) for name, text in path_values(job).items()}
    split = None if job.data.split is None else locate(job.data.split)
    uri = job.data.uri
    if "://" not in uri and uri != INSTALLED:
        uri = str(_find(root, uri) or _normal(expand_home(uri)))
    data = job.data.model_copy(update={"split": split, "uri": uri})
    return job.model_copy(update={"params": job.params | params, "data": data}), named


def _find(root: Path, text: str) -> Path | None:
    """The absolute path of an existing file or folder."""
    path = expand_home(text)
    places = () if "://" in text else (root / path, path)
    return next((_normal(place) for place in places if place.exists()), None)


def _normal(path: Path) -> Path:
    return Path(os.path.normpath(path.absolute()))
