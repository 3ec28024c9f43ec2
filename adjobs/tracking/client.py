"""The connection to MLflow: a server, or a SQLite file that is made when it is first used."""

from __future__ import annotations

import logging
import os
import re
import secrets
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from adjobs.config.settings import is_stack_stopped
from adjobs.errors import TrackingError, one_line

SQLITE = "sqlite:///"
UNFINISHED = ".unfinished"  # ends the name of a SQLite file whose tables are being made
FILE_ERRORS = ("disk is full", "disk I/O error", "unable to open database file", "readonly database")  # of SQLite
DUPLICATE_TEXTS = ("UNIQUE constraint", "duplicate key", "Duplicate entry")  # of SQLite, PostgreSQL and MySQL
S3_LIBRARIES = ("boto3", "botocore")  # through which MLflow reads and writes artifacts, where its server does not


@contextmanager
def mlflow_errors(uri: str) -> Iterator[None]:
    """Turn errors of MLflow, its database and its artifact store into ours.

    Raises:
        TrackingError: MLflow is down, refuses, or does not know what was requested.
    """
    try:
        yield
    except Exception as error:
        text = _explain(error)
        if text is None:
            raise
        hint = hint_of_stopped_stack(uri) if "not found" in text else ""
        raise TrackingError(f"MLflow at {uri}: {text}{hint}") from error


def hint_of_stopped_stack(uri: str) -> str:
    """Where else something may be that is not in MLflow's file of the user's folder: in the stack, if that is stopped."""
    if not uri.startswith(SQLITE) or not is_stack_stopped(sqlite_folder(uri).parent):
        return ""
    return "; the stack is stopped: if it is there, start that with 'adjobs up' and run this command again"


def _explain(error: Exception) -> str | None:
    """What an error says in one line, with what to do where that is known; None for one that does not come from MLflow."""
    from alembic.util import CommandError
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    is_of_s3 = type(error).__module__.partition(".")[0] in S3_LIBRARIES
    if not (is_of_s3 or isinstance(error, MlflowException | RequestException | SQLAlchemyError | CommandError | OSError)):
        return None
    text = re.split(r" \[SQL:| \(Background on", one_line(error))[0]  # SQLAlchemy appends the statement, and where to read more
    if isinstance(error, MlflowException | RequestException) and ("Max retries exceeded" in text or "Connection" in text):
        return "no answer; start it ('adjobs up' starts one here), or set MLFLOW_TRACKING_URI"
    if refusal := _explain_refusal(text):
        return refusal
    if "database is locked" in text:
        return f"{text}; another process holds the file: stop it, or try again"
    if isinstance(error, OSError) or any(cause in text for cause in FILE_ERRORS):
        return f"{text}; check the folder, its permissions and the free space"
    return text


def _explain_refusal(text: str) -> str | None:
    """What a server's refusal of a user means; None for another error. Artifacts are refused in other words than calls."""
    user = os.environ.get("MLFLOW_TRACKING_USERNAME")
    if "error code 401" in text or "401 Client Error" in text:
        problem = f"refuses the password of '{user}'" if user else "asks for a name and a password"
        return f"{problem}; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to those of an account"
    if ("error code 403" in text and "Permission denied" in text) or "403 Client Error" in text:
        who = f"'{user}'" if user else "this user"
        return f"{who} may not do this; who made the experiment or model may, and accounts that may edit those of others"
    return None


def connect(uri: str) -> Any:
    """A client for a tracking URI, checked to answer.

    Raises:
        TrackingError: MLflow does not answer, or its SQLite file cannot be opened or made.
    """
    import mlflow

    # Alembic and MLflow log every migration, every artifact and every error of a database.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module="mlflow")
    mlflow.set_tracking_uri(uri)
    if uri.startswith(SQLITE):
        return _connect_to_file(uri)
    with mlflow_errors(uri):
        client = mlflow.MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
        return client


def _connect_to_file(uri: str) -> Any:
    """A client for a SQLite file, which is made if it does not exist.

    A client looks for tables when it is made, and makes those that are missing: two processes that did so at once would disturb
    each other. A signal handler may connect again while its own process holds the lock.
    """
    import mlflow

    path = sqlite_file(uri)
    with mlflow_errors(uri):
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.parent / "migrate.lock", is_singleton=True):
            if not path.exists():
                _create_file(path)
            client = mlflow.MlflowClient(tracking_uri=uri)
            client.search_experiments(max_results=1)
    return client


def _create_file(path: Path) -> None:
    """Make a SQLite file with MLflow's tables: beside its place, since MLflow refuses one whose migrations were interrupted."""
    import mlflow

    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}{UNFINISHED}")
    try:
        mlflow.MlflowClient(tracking_uri=f"{SQLITE}{unfinished}")
        unfinished.replace(path)
    finally:
        for left_over in path.parent.glob(f".{path.name}.*{UNFINISHED}*"):  # of killed processes, too, with SQLite's journals
            left_over.unlink(missing_ok=True)


def sqlite_file(uri: str) -> Path:
    """The file of a SQLite tracking URI."""
    return Path(uri.removeprefix(SQLITE).partition("?")[0])


def sqlite_folder(uri: str) -> Path:
    """The folder that a SQLite tracking file and its artifacts lie in."""
    return sqlite_file(uri).parent
