"""Jobs and settings of tests."""

from __future__ import annotations

from pathlib import Path

from adjobs.config.job import JobConfig
from adjobs.config.resolve import resolve
from adjobs.config.settings import QueueSettings, Settings


def local_settings(root: Path) -> Settings:
    """Settings without any service, all of it under one folder; no MLflow is behind the tracking URI."""
    return Settings(root / "home", "sqlite:///unused", str(root / "artifacts"), None, root / "home" / "cache", QueueSettings(""))


def resolved_job(root: Path, method: str = "cdo", **data: object) -> JobConfig:
    """A job on the data in a folder."""
    return resolve({"method": method, "data": {"uri": str(root), **data}})
