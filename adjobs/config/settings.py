"""Where things are: the user's folder, and the MLflow, S3 and Ray that a command talks to.

Order of precedence: environment variables, the embedded stack that ``adjobs up`` started, local defaults.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from adjobs.errors import StackError


@dataclass(frozen=True)
class Settings:
    """Resolved places.

    Attributes:
        home: folder of this user's cache, stack state and local results (``ADJOBS_HOME``, default ``~/.adjobs``).
        tracking_uri: MLflow server or ``sqlite:///`` file.
        artifacts: ``s3://bucket/prefix`` or a local folder; holds checkpoints.
        ray_address: GCS address of a running cluster, or None: a local Ray is started for the job.
    """

    home: Path
    tracking_uri: str
    artifacts: str
    ray_address: str | None

    @property
    def cache(self) -> Path:
        """Folder of fetched and decoded data sets."""
        return Path(os.environ.get("ADJOBS_CACHE") or self.home / "cache").expanduser().absolute()


def home() -> Path:
    """The user's folder, made absolute, because Ray workers run elsewhere."""
    return Path(os.environ.get("ADJOBS_HOME") or Path.home() / ".adjobs").expanduser().absolute()


def stack_file() -> Path:
    """What ``adjobs up`` wrote: services with their processes, and the environment that clients need."""
    return home() / "stack.json"


def stack_environment() -> dict[str, str]:
    """Environment variables of the running embedded stack; empty when there is none."""
    try:
        state = json.loads(stack_file().read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise StackError(f"{stack_file()}: cannot be read ({error}); run 'adjobs down', then 'adjobs up'") from error
    return dict(state["environment"])


def load() -> Settings:
    """Resolve the settings and complete ``os.environ``, so that boto3, MLflow, Ray and their children see the same places."""
    # Variables that were set by hand win, all of one system together: half of somebody's S3 with half of ours is no S3.
    for name, value in _without_overridden(stack_environment(), os.environ).items():
        os.environ[name] = value
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    # MLflow's defaults retry for four minutes before they say that a server is down.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    # Left unset, Ray turns token authentication on when it finds a token file in the user's home.
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    base = home()
    return Settings(
        home=base,
        tracking_uri=os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{base / 'mlflow' / 'mlflow.db'}",
        artifacts=_place(os.environ.get("ADJOBS_ARTIFACTS") or str(base / "artifacts")),
        ray_address=os.environ.get("RAY_ADDRESS") or None,
    )


def _place(uri: str) -> str:
    """An address as it is, a folder with its full path, neither with a slash at its end."""
    uri = uri.removeprefix("file://").rstrip("/")
    return uri if "://" in uri else str(Path(uri).expanduser().absolute())


def _without_overridden(stack: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """Drop each system's variables from ``stack`` when the environment already names that system's place."""
    anchors = {
        "AWS_": "AWS_ENDPOINT_URL",
        "RAY_": "RAY_ADDRESS",
        "MLFLOW_": "MLFLOW_TRACKING_URI",
        "ADJOBS_": "ADJOBS_ARTIFACTS",
    }
    overridden = tuple(prefix for prefix, anchor in anchors.items() if environment.get(anchor))
    return {name: value for name, value in stack.items() if not name.startswith(overridden)}
