"""The parameters of a run in MLflow: those that distinguish runs. The whole job is in its job file."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from adjobs.config.job import JobConfig
from adjobs.config.resolve import resolve

ALWAYS = ("method", "data.uri", "data.image_size")


def distinguishing_params(job: JobConfig, varied: Collection[str] = ()) -> dict[str, str]:
    """Keys of a job by which its runs differ from others, with their values.

    Args:
        job: the resolved job.
        varied: keys that differ between the runs of a search.

    Returns:
        Method, data and size; all parameters of the method, since MLflow draws one that a run lacks as if it had another
        value; of the rest what is not the default, and what varies.
    """
    values = _flat(job)
    defaults = _flat(resolve({"method": job.method, "data": {"uri": job.data.uri}}))
    return {
        key: str(value)
        for key, value in values.items()
        if key in ALWAYS or key.startswith("params.") or key in varied or value != defaults.get(key)
    }


def changed_params(job: JobConfig, chosen: Collection[str] = ()) -> dict[str, Any]:
    """Keys of a job that are not the default, or not what its preset says, with their values; method, data and tracking aside.

    Args:
        job: the resolved job.
        chosen: keys that were left open and chosen for it.
    """
    base = {"method": job.method, "data": {"uri": job.data.uri}} | ({} if job.preset is None else {"preset": job.preset})
    defaults = _flat(resolve(base))
    unchanged = {"method", "data.uri", *chosen}
    return {key: value for key, value in _flat(job).items() if key not in unchanged and value != defaults.get(key)}


def flatten(section: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted keys of a nested mapping.

    >>> flatten({"train": {"workers": 2}})
    {'train.workers': 2}
    """
    flat: dict[str, Any] = {}
    for key, value in section.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _flat(job: JobConfig) -> dict[str, Any]:
    return flatten(job.model_dump(mode="json", exclude={"track"}))
