"""A bucket, through boto3, which is imported at the first request."""

# ruff: noqa: D102 (documented in the Protocol)

from __future__ import annotations

import os
import shutil
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from adjobs.errors import StorageError, one_line
from adjobs.storage.base import Entries, Entry, atomic_write, check_key

THREADS = 16  # requests are small and wait for the server
_CHUNK = 1 << 20
_READ_ATTEMPTS = 3
_MISSING = {"404", "NotFound", "NoSuchKey"}
_REFUSED = {"403", "Forbidden"}
_EXISTS = {"412", "PreconditionFailed"}
_CONFLICT = {"409", "ConditionalRequestConflict"}  # two conditional requests at once; S3 says to repeat it
_CREATE_ATTEMPTS = 5
# Error codes of servers and names of botocore's errors, and what to tell the user.
_EXPLANATIONS: tuple[tuple[set[str], str], ...] = (
    (
        _REFUSED | {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"},
        "the credentials were refused ({code}); check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and their permissions",
    ),
    (
        {"AccessDenied"},
        "not allowed with these keys ({code}); check the name of the bucket, and what AWS_ACCESS_KEY_ID may do there",
    ),
    ({"NoSuchBucket"}, "no such bucket; create it or correct the name"),
    (_MISSING, "no such object; check the key"),
    (
        {"EndpointConnectionError", "ConnectTimeoutError", "ConnectionClosedError", "ProxyConnectionError"},
        "nothing listens at {endpoint}; start it ('adjobs up' for the embedded one) or correct AWS_ENDPOINT_URL",
    ),
    (
        {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"},
        "no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or start the embedded stack with 'adjobs up'",
    ),
    ({"ReadTimeoutError"}, "no answer within 60 s; try again, or check the server's log"),
)

Result = TypeVar("Result")


class S3Store:
    """A bucket, or the objects under a prefix of it."""

    def __init__(self, bucket: str, prefix: str = "", environment: Mapping[str, str] | None = None) -> None:
        self.bucket = bucket
        self.prefix = prefix
        self._environment = environment

    def put(self, local: Path, key: str) -> None:
        full = self._absolute(key)
        with self._s3_errors(f"store {local} as", key), local.open("rb") as file:
            self._client.upload_fileobj(file, self.bucket, full)

    def get(self, key: str, local: Path) -> None:
        self.download(key, local)

    def download(self, key: str, local: Path) -> str:
        """As ``get``; returns the tag of what was downloaded, which may be newer than that of a listing."""

        def save(answer: dict[str, Any]) -> str:
            with temporary.open("wb") as file:
                shutil.copyfileobj(answer["Body"], file, _CHUNK)
            return str(answer["ETag"])

        with self._s3_errors("read", key), atomic_write(local) as temporary:
            return self._get_object(key, save)

    def read(self, key: str) -> bytes:
        with self._s3_errors("read", key):
            return self._get_object(key, lambda answer: bytes(answer["Body"].read()))

    def _get_object(self, key: str, consume: Callable[[dict[str, Any]], Result]) -> Result:
        """Read an object; one whose body is cut off again: boto3 repeats requests, but no body."""
        from botocore.exceptions import IncompleteReadError, ReadTimeoutError, ResponseStreamingError

        for attempt in range(_READ_ATTEMPTS):
            try:
                return consume(self._client.get_object(Bucket=self.bucket, Key=self._absolute(key)))
            except (IncompleteReadError, ReadTimeoutError, ResponseStreamingError):
                if attempt == _READ_ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    def write(self, key: str, data: bytes) -> None:
        with self._s3_errors("store", key):
            self._client.put_object(Bucket=self.bucket, Key=self._absolute(key), Body=data)

    def create(self, key: str, data: bytes) -> bool:
        from botocore.exceptions import ClientError

        with self._s3_errors("store", key):
            for attempt in range(_CREATE_ATTEMPTS):
                try:
                    self._client.put_object(Bucket=self.bucket, Key=self._absolute(key), Body=data, IfNoneMatch="*")
                except ClientError as error:
                    if _code(error) in _EXISTS:
                        break
                    if _code(error) not in _CONFLICT or attempt == _CREATE_ATTEMPTS - 1:
                        raise
                else:
                    return True
        # boto3 repeats a request whose answer was lost: the object that exists may be its own.
        return self.read(key) == data

    def exists(self, key: str) -> bool:
        from botocore.exceptions import ClientError

        with self._s3_errors("check", key):
            try:
                self._client.head_object(Bucket=self.bucket, Key=self._absolute(key))
            except ClientError as error:
                if _code(error) not in _MISSING | _REFUSED:
                    raise
                # HEAD is answered with a bare number, of a missing bucket, too; a listing names the cause.
                self._client.list_objects_v2(Bucket=self.bucket, MaxKeys=1)
                if _code(error) in _REFUSED:
                    raise
                return False
            return True

    def list(self, prefix: str = "") -> Entries:
        with self._s3_errors("list", prefix):
            full = self._absolute(prefix) if prefix.strip("/") else self.prefix
            skip = len(self.prefix) + 1 if self.prefix else 0
            items = [item for item in self._objects(full) if item["Key"][skip:] and not item["Key"].endswith("/")]
            return sorted(Entry(item["Key"][skip:], item["Size"], item["ETag"]) for item in items)

    def delete(self, prefix: str) -> None:
        with self._s3_errors("delete", prefix):
            keys = [{"Key": item["Key"]} for item in self._objects(self._absolute(prefix))]
            for start in range(0, len(keys), 1000):  # limit of one request
                batch = {"Objects": keys[start : start + 1000], "Quiet": True}
                for refused in self._client.delete_objects(Bucket=self.bucket, Delete=batch).get("Errors", []):
                    reason = refused.get("Message") or refused.get("Code")
                    raise StorageError(f"cannot delete s3://{self.bucket}/{refused['Key']} at {self.endpoint}: {reason}")

    def uri(self, key: str = "") -> str:
        return "/".join(segment for segment in (f"s3://{self.bucket}", self.prefix, key.strip("/")) if segment)

    @property
    def endpoint(self) -> str:
        """URL of the server."""
        return self._endpoint_url or "AWS"

    def _absolute(self, key: str) -> str:
        key = check_key(key.removesuffix("/"))
        return f"{self.prefix}/{key}" if self.prefix else key

    def _objects(self, full: str) -> Iterator[dict[str, Any]]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=full)
        for item in (item for page in pages for item in page.get("Contents", [])):
            if not full or item["Key"] == full or item["Key"].startswith(full + "/"):
                yield item

    @property
    def _endpoint_url(self) -> str | None:
        environment = os.environ if self._environment is None else self._environment
        return environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")

    @cached_property
    def _client(self) -> Any:
        import boto3.session
        from botocore.config import Config

        is_local = urllib.parse.urlsplit(self._endpoint_url or "").hostname in {"127.0.0.1", "::1", "localhost"}
        config = Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},  # a server on an IP address has no host name per bucket
            connect_timeout=5,
            read_timeout=60,
            retries={"mode": "standard", "total_max_attempts": 3},
            max_pool_connections=THREADS,
            proxies={} if is_local else None,  # http_proxy is for other machines
        )
        env = self._environment or {}  # without it, boto3 searches the environment, configuration files and more
        session = boto3.session.Session(env.get("AWS_ACCESS_KEY_ID"), env.get("AWS_SECRET_ACCESS_KEY"))
        return session.client("s3", endpoint_url=self._endpoint_url, region_name=env.get("AWS_DEFAULT_REGION"), config=config)

    @contextmanager
    def _s3_errors(self, action: str, key: str) -> Iterator[None]:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (Boto3Error, BotoCoreError, ClientError, OSError, ValueError) as error:
            cause = _explain(error, self.endpoint)
            raise StorageError(f"cannot {action} {self.uri(key)} at {self.endpoint}: {cause}") from error


def _explain(error: Exception, endpoint: str) -> str:
    code = _code(error) or type(error).__name__
    for names, text in _EXPLANATIONS:
        if code in names:
            return text.format(code=code, endpoint=endpoint)
    return one_line(error)


def _code(error: Exception) -> str:
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""
