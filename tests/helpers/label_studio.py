"""A small Label Studio: answers as the real one does, as far as adjobs uses it, and fails on request."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

KEY = "0123456789abcdef0123456789abcdef01234567"
REFRESH_TOKEN, ACCESS_TOKEN = "aa.bb.cc", "access"
ANSWERS = json.loads((Path(__file__).parents[1] / "labelling" / "label_studio.json").read_text(encoding="utf-8"))
"""What Label Studio 1.23.2 answered."""


class LabelStudio(ThreadingHTTPServer):
    """The server.

    Attributes:
        projects: each with its title, configuration, tasks and folders.
        files: what was uploaded, by path.
        failures: by method and path, such as ``POST /api/projects/1/import``: how the next requests fail, in order. A status is
            answered at once; "lost" does what is requested and then closes the connection.
        requests: method and path of each request.
        accepts_access: whether the current access token is valid.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.projects: dict[int, dict[str, Any]] = {}
        self.files: dict[str, bytes] = {}
        self.failures: dict[str, list[int | str]] = {}
        self.requests: list[str] = []
        self.accepts_access = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def add_project(self, title: str, config: str, tasks: list[dict[str, Any]] | None = None) -> dict[str, Any]:
        number = len(self.projects) + 1
        self.projects[number] = {"id": number, "title": title, "label_config": config, "tasks": tasks or [], "folders": []}
        return self.projects[number]


@contextmanager
def label_studio() -> Iterator[LabelStudio]:
    """A running server."""
    with LabelStudio() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: LabelStudio

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PATCH(self) -> None:
        self._answer("PATCH")

    def log_message(self, *arguments: Any) -> None:
        pass

    def _answer(self, method: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        url = urlsplit(self.path)
        self.server.requests.append(f"{method} {url.path}")
        failures = self.server.failures.get(f"{method} {url.path}", [])
        failure = failures.pop(0) if failures else None
        if isinstance(failure, int):
            self._send(failure, {"detail": "failed on request"})
            return
        status, document = self._route(method, url.path, {k: v[0] for k, v in parse_qs(url.query).items()}, body)
        if failure == "lost":
            self.close_connection = True
            return
        self._send(status, document)

    def _send(self, status: int, document: Any) -> None:
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _route(self, method: str, path: str, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        if path == "/api/token/refresh":
            if json.loads(body) != {"refresh": REFRESH_TOKEN}:
                return 401, {"detail": "Token is invalid"}
            self.server.accepts_access = True
            return 200, {"access": ACCESS_TOKEN}
        is_access = self.headers["Authorization"] == f"Bearer {ACCESS_TOKEN}" and self.server.accepts_access
        if not is_access and self.headers["Authorization"] != f"Token {KEY}":
            return 401, ANSWERS["unauthorized"]
        if path.startswith("/data/"):
            content = self.server.files.get(unquote(query.get("d", path)))
            return (404, {"detail": "Not found."}) if content is None else (200, content)
        for pattern, respond in _ROUTES.items():
            if match := re.fullmatch(pattern, f"{method} {path}"):
                return respond(self, query, body, *(int(number) for number in match.groups()))
        return 404, b"<!doctype html>"

    def _list_projects(self, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        keys = query["include"].split(",")
        return 200, self._page("results", "count", [{k: p[k] for k in keys} for p in self.server.projects.values()], query)

    def _create_project(self, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        document = json.loads(body)
        if len(document["title"]) < 3:
            return 400, ANSWERS["title_too_short"]
        return 201, self.server.add_project(document["title"], document["label_config"])

    def _change_project(self, query: dict[str, str], body: bytes, project: int) -> tuple[int, Any]:
        self.server.projects[project].update(json.loads(body))
        return 200, self.server.projects[project]

    def _list_tasks(self, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        tasks = self.server.projects[int(query["project"])]["tasks"]
        return 200, self._page("tasks", "total", [{"id": task["id"], "data": task["data"]} for task in tasks], query)

    def _page(self, key: str, total: str, items: list[Any], query: dict[str, str]) -> dict[str, Any]:
        size, page = int(query["page_size"]), int(query["page"])
        return {total: len(items), key: items[(page - 1) * size : page * size]}

    def _import(self, query: dict[str, str], body: bytes, project: int) -> tuple[int, Any]:
        if query.get("commit_to_project") != "false":
            tasks = self.server.projects[project]["tasks"]
            new = json.loads(body)
            tasks += [{"id": len(tasks) + i + 1, "annotations": [], **task} for i, task in enumerate(new)]
            return 201, {**ANSWERS["import"], "task_count": len(new)}
        head, _, rest = body.partition(b"\r\n\r\n")
        name = head.decode().rpartition('filename="')[2].partition('"')[0]
        number = len(self.server.files) + 1
        boundary = head.partition(b"\r\n")[0]
        self.server.files[f"/data/upload/{project}/{number:08x}-{name.replace(' ', '_')}"] = rest.removesuffix(
            b"\r\n" + boundary + b"--\r\n"
        )
        return 201, {**ANSWERS["upload"], "file_upload_ids": [number]}

    def _file_upload(self, query: dict[str, str], body: bytes, number: int) -> tuple[int, Any]:
        path = list(self.server.files)[number - 1]
        return 200, {"id": number, "file": path.removeprefix("/data/"), "size": len(self.server.files[path])}

    def _list_folders(self, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        return 200, [{"path": path} for path in self.server.projects[int(query["project"])]["folders"]]

    def _add_folder(self, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        document = json.loads(body)
        if "refused" in document["path"]:
            return 400, ANSWERS["storage_refused"]
        self.server.projects[document["project"]]["folders"].append(document["path"])
        return 201, document

    def _export(self, query: dict[str, str], body: bytes, project: int) -> tuple[int, Any]:
        return 200, [task for task in self.server.projects[project]["tasks"] if task["annotations"]]


_ROUTES = {
    r"GET /api/projects/": _Handler._list_projects,
    r"POST /api/projects/": _Handler._create_project,
    r"PATCH /api/projects/(\d+)/": _Handler._change_project,
    r"GET /api/tasks": _Handler._list_tasks,
    r"POST /api/projects/(\d+)/import": _Handler._import,
    r"GET /api/import/file-upload/(\d+)": _Handler._file_upload,
    r"GET /api/storages/localfiles": _Handler._list_folders,
    r"POST /api/storages/localfiles": _Handler._add_folder,
    r"GET /api/projects/(\d+)/export": _Handler._export,
}
