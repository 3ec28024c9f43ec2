"""The environment variables that adjobs sets, and the only code that writes ``os.environ``.

MLflow, Ray, Ray Tune and boto3 are configured by environment variables, some of which are read when a module is imported or when
a process starts. Entry points (the command line, the functions of the library) therefore call :func:`load_settings` before they
import anything of them. Processes that a local Ray starts inherit the variables; a cluster's processes have the cluster's.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, MutableMapping
from typing import NamedTuple

from adjobs.config.settings import Settings, applicable, home_folder, stack_environment


class EnvironmentVariable(NamedTuple):
    """A variable that is set unless the user has set it."""

    name: str
    value: str
    reason: str


# Read by the driver of a training on a cluster of one machine.
ONE_MACHINE_VARIABLES = (
    EnvironmentVariable(
        "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0", "nobody takes the only machine away; to watch for it takes a process"
    ),
)
# Read in the process of a trial, on whatever node that runs.
TRIAL_VARIABLES = (
    EnvironmentVariable(
        "TUNE_FUNCTION_THREAD_TIMEOUT_S",
        "30",
        "seconds in which the thread of a stopped trial must end; only then does its process take the next trial",
    ),
)
VARIABLES = (
    EnvironmentVariable("MLFLOW_DISABLE_TELEMETRY", "true", "nothing is sent to third parties"),
    EnvironmentVariable("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false", "MLflow's bars would mix with the progress of the job"),
    EnvironmentVariable("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true", "standard output holds the result and nothing else"),
    EnvironmentVariable(
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2", "by default it retries for four minutes before it reports an error"
    ),
    EnvironmentVariable("MLFLOW_HTTP_REQUEST_TIMEOUT", "20", "seconds; by default two minutes"),
    EnvironmentVariable("RAY_AUTH_MODE", "disabled", "unset, a token file in the user's home would turn authentication on"),
    EnvironmentVariable("RAY_USAGE_STATS_ENABLED", "0", "nothing is sent to third parties"),
    EnvironmentVariable(
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2", "seconds between two polls of the workers; every report waits for one"
    ),
    EnvironmentVariable("RAY_TRAIN_ENABLE_PRINT_PATCH", "0", "print stays Python's own"),
    EnvironmentVariable("RAY_CHDIR_TO_TRIAL_DIR", "0", "relative paths in a job keep their meaning"),
    EnvironmentVariable("RAY_AIR_NEW_OUTPUT", "0", "adjobs shows the progress of a search itself"),
    EnvironmentVariable("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1", "Tune would write every report to files; MLflow has them"),
    EnvironmentVariable("TUNE_DISABLE_SIGINT_HANDLER", "1", "signals are handled by the command line"),
    EnvironmentVariable(
        "TUNE_GLOBAL_CHECKPOINT_S", "1000000", "Tune's snapshots are pickles; a search resumes from MLflow alone"
    ),
    EnvironmentVariable("TUNE_MAX_PENDING_TRIALS_PG", "1", "a trial is proposed when there is room for it, not before"),
    *TRIAL_VARIABLES,
)


def apply(env: MutableMapping[str, str], variables: Iterable[EnvironmentVariable] = VARIABLES) -> None:
    """Set the variables that are not set yet."""
    for variable in variables:
        env.setdefault(variable.name, variable.value)


def load_settings() -> Settings:
    """Resolve the settings and complete ``os.environ``, so that boto3, MLflow, Ray and their children use the same services.

    Raises:
        StackError: the file of the embedded stack cannot be read.
        AdjobsError: an address holds a user or a password.
    """
    os.environ.update(applicable(stack_environment(home_folder(os.environ)), os.environ))
    apply(os.environ)
    return Settings.from_env(os.environ)
