"""Secrets of the embedded stack: made on the first start, kept in files that only this user can read."""

from __future__ import annotations

import json
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from adjobs.errors import StackError

MLFLOW_USER, MLFLOW_PASSWORD_FILE = "adjobs", "mlflow-password"

BUCKET, MLFLOW_BUCKET = "adjobs", "mlflow"
# What each identity may do. Without any SeaweedFS would accept every client; writing to all of a bucket includes its settings.
S3_ACTIONS = {
    "jobs": [f"Read:{BUCKET}", f"List:{BUCKET}", f"Write:{BUCKET}/*"],  # jobs on Ray, and this user
    "dispatcher": [f"Read:{BUCKET}", f"List:{BUCKET}", f"Write:{BUCKET}/queue/*"],
    "mlflow": [f"Read:{MLFLOW_BUCKET}", f"List:{MLFLOW_BUCKET}", f"Write:{MLFLOW_BUCKET}/*"],
}


class S3Keys(NamedTuple):
    """User name and password for S3."""

    access_key: str
    secret_key: str


class Credentials(NamedTuple):
    """Secrets of the services.

    Attributes:
        s3_keys: keys for S3 by identity, one for each of :data:`S3_ACTIONS`.
        s3_file: the identities in SeaweedFS's format.
        admin_password: password for SeaweedFS's administration.
        ray_token_file: token that Ray and its clients read.
        queue_token_file: token of this user for the queue.
        mlflow_password_file: password for MLflow, whose only user is :data:`MLFLOW_USER`.
    """

    s3_keys: dict[str, S3Keys]
    s3_file: Path
    admin_password: str
    ray_token_file: Path
    queue_token_file: Path
    mlflow_password_file: Path

    @property
    def ray_token(self) -> str:
        """Token that clients send to Ray."""
        return self.ray_token_file.read_text().strip()

    @property
    def mlflow_password(self) -> str:
        """Password that clients send to MLflow."""
        return self.mlflow_password_file.read_text().strip()


def load(folder: Path) -> Credentials:
    """Read the secrets; those that do not exist yet are made.

    Raises:
        StackError: a file cannot be read or written, or is damaged.
    """
    private_folder(folder)
    s3_file, admin_file, ray_token_file = folder / "s3.json", folder / "s3-admin-password", folder / "ray-token"
    keys = _s3_keys(s3_file)
    password = _secret(admin_file, secrets.token_urlsafe).strip()
    _secret(ray_token_file, secrets.token_hex)
    queue_token_file = folder / "queue-token"
    _secret(queue_token_file, lambda: f"adj_{secrets.token_urlsafe(32)}")
    mlflow_password_file = folder / MLFLOW_PASSWORD_FILE
    _secret(mlflow_password_file, lambda: secrets.token_urlsafe(32))
    return Credentials(keys, s3_file, password, ray_token_file, queue_token_file, mlflow_password_file)


def write_private(path: Path, text: str) -> None:
    """Write a file that only this user can read, under a temporary name that is then replaced.

    Raises:
        StackError: the disk refuses.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StackError(f"{path} cannot be written ({error.strerror}); check ADJOBS_HOME and the free space") from error


def private_folder(path: Path) -> Path:
    """Make a folder that only this user can enter, and return it.

    Raises:
        StackError: it cannot be made, or the path belongs to another user or is not a folder.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
            raise StackError(f"{path} is not a folder of this user; remove it, or set ADJOBS_HOME to another folder")
        path.chmod(0o700)
    except OSError as error:
        raise StackError(f"{path} cannot be used ({error.strerror}); set ADJOBS_HOME to another folder") from error
    return path


def _secret(path: Path, make: Callable[[], str]) -> str:
    if not path.exists():
        write_private(path, make())
    try:
        path.chmod(0o600)
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise StackError(f"{path} cannot be read ({error}); correct its owner, or delete it and run 'adjobs up'") from error


def _s3_keys(path: Path) -> dict[str, S3Keys]:
    """Keys by identity; where the file gives others or lets them do something else, all are made again."""
    text = _secret(path, _new_identities)
    try:
        identities = json.loads(text)["identities"]
        if {identity["name"]: identity["actions"] for identity in identities} != S3_ACTIONS:
            write_private(path, _new_identities())
            identities = json.loads(path.read_text())["identities"]
        keys = {identity["name"]: identity["credentials"][0] for identity in identities}
        return {name: S3Keys(str(pair["accessKey"]), str(pair["secretKey"])) for name, pair in keys.items()}
    except (ValueError, LookupError, TypeError) as error:
        raise StackError(f"{path}: damaged ({error!r}); delete it and run 'adjobs up', which makes a new one") from error


def _new_identities() -> str:
    identities = [
        {
            "name": name,
            "credentials": [{"accessKey": f"ADJOBS{secrets.token_hex(7).upper()}", "secretKey": secrets.token_urlsafe(30)}],
            "actions": actions,
        }
        for name, actions in S3_ACTIONS.items()
    ]
    return json.dumps({"identities": identities})
