"""Who started a run, and with what: the tags that MLflow shows as user and source."""

from __future__ import annotations

import getpass
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


def user_name(environment: Mapping[str, str]) -> str:
    """The login name and, where it is another, the account of MLflow."""
    account = environment.get("MLFLOW_TRACKING_USERNAME")
    try:
        login = getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        login = "unknown"
    return login if account in (None, "", login) else f"{login} ({account})"


def source_tags(*, is_job: bool) -> dict[str, str]:
    """MLflow's tags of user and source of a run that this process opens.

    Args:
        is_job: whether this process is the driver of a Ray job, rather than started by a person.
    """
    commit = git_commit()
    return {
        "mlflow.user": user_name(os.environ),
        "mlflow.source.name": command_name(sys.argv),
        "mlflow.source.type": "JOB" if is_job else "LOCAL",
    } | ({} if commit is None else {"mlflow.source.git.commit": commit})


def command_name(arguments: Sequence[str]) -> str:
    """What a process was started as, without what may be private: verbs of adjobs, or the file name of a program.

    >>> command_name(["/usr/bin/adjobs", "train", "s3://secret/job.yaml"]), command_name(["nightly.py", "3"])
    ('adjobs train', 'nightly.py')
    """
    program, verb = Path(arguments[0] if arguments else ""), "".join(arguments[1:2])
    is_ours = program.name == "adjobs" or program.parts[-2:] == ("adjobs", "__main__.py")
    if is_ours:
        return f"adjobs {verb}" if verb.isidentifier() else "adjobs"
    return program.name or "python"


def git_commit() -> str | None:
    """The commit of the current folder, if it is a git work tree."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
