"""Label Studio's HTTP interface: the few calls that importing tasks and exporting annotations take."""

from __future__ import annotations

import http.client
import json
import re
import stat
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit

from adjobs.errors import LabelStudioError, LabelStudioUnavailableError, one_line, printable, shorten
from adjobs.http import make_opener

SECONDS = 120.0  # in which the export of a large project must begin
WAITS = (0.5, 2.0, 5.0)
"""Seconds before a request is repeated that the server did not answer, or could not answer then."""

PAGE = 1000  # tasks in one answer
_PERSONAL_TOKEN = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+")  # a JSON web token; keys of the older kind have no dots
_ACCEPTED_SUFFIXES = {".jpe": ".jpg", ".jfif": ".jpg"}  # by which the server takes an image whose own suffix it refuses
Answer = TypeVar("Answer")


def read_key(path: Path) -> str:
    """The key in a file, which nobody else may read.

    Raises:
        LabelStudioError: the file cannot be read, others can read it, or it holds no key.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        key = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise LabelStudioError(f"key file {path}: cannot be read ({one_line(error)}); give a file that holds the key") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise LabelStudioError(f"key file {path}: has mode {mode:04o}, others may read it; run: chmod 600 {path}")
    if not re.fullmatch(r"[!-~]+", key):
        raise LabelStudioError(f"key file {path}: must hold one key and nothing else; copy it from Account & Settings again")
    return key


class LabelStudioClient:
    """A Label Studio. Every method raises LabelStudioError when it refuses or does not answer.

    Attributes:
        url: its address, without a slash at the end.
    """

    def __init__(self, url: str, key: str) -> None:
        """Without connecting.

        Args:
            url: address, ``http://`` or ``https://``.
            key: access token of a user, personal or of the older kind.
        """
        address = urlsplit(url)
        if address.scheme not in ("http", "https") or not address.hostname or "@" in address.netloc:
            allowed = "must be http://host or https://host, without a user or password"
            raise LabelStudioError(f"Label Studio's address: got {shorten(url.rpartition('@')[2], 100)!r}; {allowed}")
        self.url, self._key = url.rstrip("/"), key
        self._opener = make_opener(self.url)
        self._access: str | None = None  # of a personal token, good for minutes

    def projects(self) -> list[dict[str, Any]]:
        """All projects: ``id``, ``title``, ``label_config``."""
        return list(self._pages("/api/projects/", {"include": "id,title,label_config"}, "results"))

    def create_project(self, title: str, config: str) -> dict[str, Any]:
        """Make a project; not repeated by itself, since it may have been made."""
        return dict(self._json("POST", "/api/projects/", {"title": title, "label_config": config}, repeat=False))

    def set_config(self, project: int, config: str) -> dict[str, Any]:
        """Set a project's labelling configuration."""
        return dict(self._json("PATCH", f"/api/projects/{project}/", {"label_config": config}))

    def task_data(self, project: int) -> Iterator[dict[str, Any]]:
        """What each task of a project is about."""
        query = {"project": str(project), "fields": "task_only", "include": "id,data"}
        for task in self._pages("/api/tasks", query, "tasks"):
            yield dict(task.get("data") or {})

    def import_tasks(self, project: int, tasks: list[dict[str, Any]]) -> int:
        """Add tasks; returns their number. Not repeated by itself, since they may have been added."""
        return int(self._json("POST", f"/api/projects/{project}/import", tasks, repeat=False)["task_count"])

    def upload(self, project: int, path: Path) -> str:
        """Upload an image without making a task of it; returns its address. Repeated, it is another file."""
        boundary = uuid.uuid4().hex
        suffix = _ACCEPTED_SUFFIXES.get(path.suffix.lower(), path.suffix)
        name = printable(f"{path.stem}{suffix}").replace('"', "%22")  # as browsers do
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        try:
            content = path.read_bytes()
        except OSError as error:
            raise LabelStudioError(f"{path}: cannot be read ({one_line(error)}); restore it") from error
        body = head.encode() + b"Content-Type: application/octet-stream\r\n\r\n" + content + f"\r\n--{boundary}--\r\n".encode()
        answer = self._json("POST", f"/api/projects/{project}/import?commit_to_project=false", body, boundary=boundary)
        file = self._json("GET", f"/api/import/file-upload/{int(answer['file_upload_ids'][0])}")["file"]
        return f"/data/{quote(file)}"

    def local_storages(self, project: int) -> list[str]:
        """Folders of the server whose files a project may show."""
        return [str(storage["path"]) for storage in self._json("GET", f"/api/storages/localfiles?project={project}")]

    def add_local_storage(self, project: int, folder: str) -> None:
        """Let a project show the files of a folder of the server."""
        body = {"project": project, "path": folder, "title": "adjobs", "use_blob_urls": True}
        self._json("POST", "/api/storages/localfiles", body)

    def export(self, project: int) -> list[dict[str, Any]]:
        """The tasks of a project that were annotated or skipped."""
        tasks = self._json("GET", f"/api/projects/{project}/export?exportType=JSON&download_all_tasks=false")
        return [dict(task) for task in tasks]

    def download(self, address: str) -> bytes:
        """A file of the server; ``address`` starts with a slash."""
        return self._repeat(lambda: self._send("GET", address, None, {}))

    def _pages(self, path: str, query: dict[str, str], key: str) -> Iterator[dict[str, Any]]:
        page, seen = 1, 0
        while True:
            answer = self._json("GET", f"{path}?{urlencode({**query, 'page': page, 'page_size': PAGE})}")
            items = list(answer[key])
            yield from items
            page, seen = page + 1, seen + len(items)
            if not items or seen >= int(answer.get("count", answer.get("total", 0))):
                return

    def _json(self, method: str, path: str, body: Any = None, *, boundary: str | None = None, repeat: bool = True) -> Any:
        data = body if boundary or body is None else json.dumps(body, allow_nan=False).encode()
        content = f"multipart/form-data; boundary={boundary}" if boundary else "application/json"

        def send() -> bytes:
            return self._send(method, path, data, {"Content-Type": content} if data is not None else {})

        text = self._repeat(send) if repeat else send()
        try:
            return json.loads(text)
        except ValueError as error:
            raise LabelStudioError(f"{self.url}: the answer is not JSON; give the address of a Label Studio") from error

    def _repeat(self, send: Callable[[], Answer]) -> Answer:
        for wait in WAITS:
            try:
                return send()
            except LabelStudioUnavailableError:
                time.sleep(wait)
        return send()

    def _send(self, method: str, path: str, data: bytes | None, headers: dict[str, str]) -> bytes:
        had_access = self._access is not None
        try:
            return self._open(method, path, data, {**headers, "Authorization": self._authorization()})
        except urllib.error.HTTPError as error:
            if error.code != HTTPStatus.UNAUTHORIZED or not had_access:
                raise self._refusal(error) from error
        self._access = None  # it has expired
        return self._send(method, path, data, headers)

    def _authorization(self) -> str:
        if not _PERSONAL_TOKEN.fullmatch(self._key):
            return f"Token {self._key}"
        if self._access is None:
            body = json.dumps({"refresh": self._key}).encode()
            answer = self._open("POST", "/api/token/refresh", body, {"Content-Type": "application/json"})
            self._access = str(json.loads(answer)["access"])
        return f"Bearer {self._access}"

    def _open(self, method: str, path: str, data: bytes | None, headers: dict[str, str]) -> bytes:
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with self._opener.open(request, timeout=SECONDS) as response:
                return bytes(response.read())
        except urllib.error.HTTPError:
            raise
        except (OSError, http.client.HTTPException, ValueError) as error:
            cause = error.reason if isinstance(error, urllib.error.URLError) and isinstance(error.reason, Exception) else error
            raise LabelStudioUnavailableError(
                f"Label Studio at {self.url} does not answer ({one_line(cause)}); start it, or correct its address"
            ) from error

    def _refusal(self, error: urllib.error.HTTPError) -> LabelStudioError:
        """What the server says, in one line, without the key."""
        reason = _reason(error)
        if error.code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            action = "copy the key from Account & Settings again, or use that of a user who may change the project"
            return LabelStudioError(f"Label Studio at {self.url} refuses the key ({error.code}: {reason}); {action}")
        if error.code == HTTPStatus.BAD_REQUEST:
            return LabelStudioError(f"Label Studio at {self.url} refuses this: {reason}")
        is_passing = error.code >= HTTPStatus.INTERNAL_SERVER_ERROR or error.code == HTTPStatus.TOO_MANY_REQUESTS
        kind = LabelStudioUnavailableError if is_passing else LabelStudioError
        return kind(f"Label Studio at {self.url} answered {error.code} ({reason}); check its address, and its log")


def _reason(error: urllib.error.HTTPError) -> str:
    text = error.read(100_000).decode(errors="replace")
    try:
        document = json.loads(text)
        errors = document.get("validation_errors") or {}
        details = [item if name == "non_field_errors" else f"{name}: {item}" for name, items in errors.items() for item in items]
        return shorten("; ".join(details) or str(document["detail"]), 300)
    except (ValueError, LookupError, TypeError, AttributeError):
        return str(error.reason)  # a page for browsers
