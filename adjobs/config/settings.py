"""Where things are: the user's folder, and the MLflow, S3 and Ray that a command talks to.

Order of precedence: environment variables, the embedded stack that ``adjobs up`` started, local defaults. Nothing here reads or
writes the environment of the process: see :mod:`adjobs.config.environment`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from adjobs.errors import AdjobsError, StackError
from adjobs.paths import expand_home

# The variable that names a system's address, by the prefix of all variables of that system.
_ADDRESSES = {
    "AWS_": "AWS_ENDPOINT_URL",
    "RAY_": "RAY_ADDRESS",
    "MLFLOW_": "MLFLOW_TRACKING_URI",
    "ADJOBS_ARTIFACTS": "ADJOBS_ARTIFACTS",
    "ADJOBS_QUEUE_": "ADJOBS_QUEUE_URL",
}


WORKING_DIR_VARIABLE = "ADJOBS_WORKING_DIR"
"""In driver and workers of a queued job: SHA-256 of the uploaded archive that is unpacked in their current folder."""

# Addresses are printed and recorded with runs; how to log in is set apart from them.
_LOGINS = {
    "MLFLOW_TRACKING_URI": "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
    "AWS_ENDPOINT_URL": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "RAY_API_SERVER_ADDRESS": "RAY_AUTH_TOKEN_PATH",
    "ADJOBS_QUEUE_URL": "ADJOBS_QUEUE_TOKEN_PATH",
}


@dataclass(frozen=True)
class QueueSettings:
    """Where the queue is.

    Attributes:
        database: its database, used on its own machine alone (``ADJOBS_QUEUE_DATABASE``, default a file in the user's folder).
        url: its address for clients, or None: there is no queue (``ADJOBS_QUEUE_URL``).
        token_path: file with this user's token for it (``ADJOBS_QUEUE_TOKEN_PATH``).
        ray_dashboard: HTTP address of the cluster's dashboard, where the queue submits (``RAY_API_SERVER_ADDRESS``).
    """

    database: str
    url: str | None = None
    token_path: Path | None = None
    ray_dashboard: str | None = None

    @classmethod
    def from_env(cls, env: Mapping[str, str], home: Path) -> Self:
        """From the environment of a process."""
        token_path = env.get("ADJOBS_QUEUE_TOKEN_PATH")
        return cls(
            database=env.get("ADJOBS_QUEUE_DATABASE") or f"sqlite:///{home / 'queue' / 'queue.db'}",
            url=env.get("ADJOBS_QUEUE_URL") or None,
            token_path=expand_home(token_path) if token_path else None,
            ray_dashboard=env.get("RAY_API_SERVER_ADDRESS") or None,
        )


@dataclass(frozen=True)
class Settings:
    """Resolved folders and addresses.

    Attributes:
        home: folder of this user's stack state and local results (``ADJOBS_HOME``, default ``~/.adjobs``).
        tracking_uri: MLflow server or ``sqlite:///`` file.
        artifacts: ``s3://bucket/prefix`` or a local folder; holds checkpoints.
        ray_address: GCS address of a running cluster, or None: a local Ray is started for the job.
        cache: folder of fetched and decoded data sets (``ADJOBS_CACHE``, default ``cache`` in ``home``).
        queue: the queue of jobs.
        working_dir: SHA-256 of the archive that is unpacked in the current folder of this process and of its workers, on every
            machine; None: they have different folders.
    """

    home: Path
    tracking_uri: str
    artifacts: str
    ray_address: str | None
    cache: Path
    queue: QueueSettings
    working_dir: str | None = None

    @classmethod
    def from_env(cls, env: Mapping[str, str], stack: Mapping[str, str] | None = None) -> Self:
        """Resolve the settings of a process.

        Args:
            env: its environment.
            stack: variables of the running embedded stack, used where ``env`` names nothing else; None: there is no stack.

        Raises:
            AdjobsError: an address holds a user or a password.
        """
        env = {**env, **applicable(stack or {}, env)}
        for name, instead in _LOGINS.items():
            _check_address(name, env.get(name) or "", instead)
        home = home_folder(env)
        return cls(
            home=home,
            tracking_uri=env.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home / 'mlflow' / 'mlflow.db'}",
            artifacts=_absolute_uri(env.get("ADJOBS_ARTIFACTS") or str(home / "artifacts")),
            ray_address=env.get("RAY_ADDRESS") or None,
            cache=expand_home(env.get("ADJOBS_CACHE") or home / "cache").absolute(),
            queue=QueueSettings.from_env(env, home),
            working_dir=env.get(WORKING_DIR_VARIABLE) or None,
        )


def home_folder(env: Mapping[str, str]) -> Path:
    """The user's folder, made absolute, because Ray workers run in other folders."""
    return expand_home(env.get("ADJOBS_HOME") or Path.home() / ".adjobs").absolute()


def stack_file(home: Path) -> Path:
    """What ``adjobs up`` wrote: services with their processes, and the environment that clients need."""
    return home / "stack.json"


def is_stack_stopped(home: Path) -> bool:
    """Whether ``adjobs up`` has started a stack in this folder, with runs in its MLflow, that does not run now."""
    return (home / "stack" / "mlflow" / "mlflow.db").exists() and not stack_file(home).exists()


def stack_environment(home: Path) -> dict[str, str]:
    """Environment variables of the running embedded stack; empty when there is none.

    Raises:
        StackError: the stack's file cannot be read.
    """
    path = stack_file(home)
    try:
        state = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise StackError(f"{path}: cannot be read ({error}); run 'adjobs down', then 'adjobs up'") from error
    return dict(state["environment"])


def applicable(stack: Mapping[str, str], env: Mapping[str, str]) -> dict[str, str]:
    """The variables of ``stack`` without those of each system whose address ``env`` names already.

    Variables that were set by hand win, all of one system together: half of one S3 with half of another is no S3.
    """
    overridden = tuple(prefix for prefix, address in _ADDRESSES.items() if env.get(address))
    return {name: value for name, value in stack.items() if not name.startswith(overridden)}


def _check_address(name: str, address: str, instead: str) -> None:
    if "@" in address.partition("://")[2].partition("/")[0]:
        raise AdjobsError(f"{name}: holds a user or a password before '@', which would be recorded; remove it and set {instead}")


def _absolute_uri(uri: str) -> str:
    """A URI as it is, a folder with its full path, neither with a slash at its end."""
    uri = uri.removeprefix("file://").rstrip("/")
    return uri if "://" in uri else str(expand_home(uri).absolute())
