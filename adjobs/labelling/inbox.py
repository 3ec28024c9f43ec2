"""Fetch what people have annotated in Label Studio: a folder of images with their labels, which is a data set's addition."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from adjobs.data.walk import content_hash, is_image
from adjobs.errors import LabelStudioError, StorageError, printable, shorten, shown
from adjobs.labelling.client import LabelStudioClient
from adjobs.labelling.project import find_project
from adjobs.storage import open_store
from adjobs.storage.outputs import OutputFolder

LABELS_FILE = "labels.json"
"""The export, beside the images; written last."""

_MAX_NAME = 150  # characters of an image's name that are kept
_UNSAFE = re.compile(r'[\\/:*?"<>|]+')


@dataclass(frozen=True)
class FetchResult:
    """What was fetched.

    Attributes:
        out: the folder.
        address: of the project's page.
        annotated: number of images with a finished annotation, all of them in the folder.
        downloaded: number of them that were not there before.
        skipped: number of tasks that annotators skipped; they are left out.
    """

    out: Path
    address: str
    annotated: int
    downloaded: int
    skipped: int

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {**asdict(self), "out": str(self.out)}


def fetch_annotations(client: LabelStudioClient, title: str, out: Path) -> FetchResult:
    """Fetch the finished annotations of a project, with their images, into a folder.

    A second call brings the folder up to date. Images that are there are not fetched again; the labels are those of now.

    Args:
        client: of the server.
        title: of the project.
        out: the folder; one for each project.

    Raises:
        LabelStudioError: there is no such project, it has no finished annotation, the server refuses or does not answer, or an
            image is not what the task says.
        StorageError: the folder cannot be written, holds something else, or S3 refuses.
    """
    project = find_project(client, title)
    if project is None:
        titles = ", ".join(sorted(str(other["title"]) for other in client.projects()))
        raise LabelStudioError(f"project {shown(title)}: there is none at {client.url}; available: {shorten(titles) or 'none'}")
    address = f"{client.url}/projects/{project['id']}"
    folder = OutputFolder(out, "label fetch")
    _refuse_other_project(folder.path, address)
    tasks = client.export(int(project["id"]))
    annotated = [task for task in tasks if any(not annotation.get("was_cancelled") for annotation in task["annotations"])]
    if not annotated:
        raise LabelStudioError(f"project {shown(title)}: none of its tasks is annotated; label some in {address}")
    names = [_file_name(task) for task in annotated]
    folder.check([LABELS_FILE, *names])
    downloaded = sum(_fetch_image(client, task, name, folder) for task, name in zip(annotated, names, strict=True))
    _write_labels(folder, [_local_task(task, name, address) for task, name in zip(annotated, names, strict=True)])
    return FetchResult(out, address, len(annotated), downloaded, len(tasks) - len(annotated))


def _refuse_other_project(folder: Path, address: str) -> None:
    """Refuse a folder with the labels of another project, which would be replaced."""
    try:
        tasks = json.loads((folder / LABELS_FILE).read_text(encoding="utf-8"))
        others = {str(task["data"]["project"]) for task in tasks} - {address}
    except FileNotFoundError:
        return
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise StorageError(f"{folder / LABELS_FILE}: is not a file of 'adjobs label fetch'; choose another --out") from error
    if others:
        raise StorageError(f"{folder}: has the labels of {min(others)}; choose another folder with --out for this project")


def _file_name(task: dict[str, Any]) -> str:
    """The name of a task's image in the folder: its own, after the task's number, which makes it unique.

    Raises:
        LabelStudioError: the task has no image of a format that is read.
    """
    address = str(task["data"].get("image", ""))
    name = str(task["data"].get("name") or PurePosixPath(_path_of(address)).name)
    safe = _UNSAFE.sub("-", printable(name)).strip(". ")
    stem, suffix = Path(safe).stem[:_MAX_NAME], Path(safe).suffix
    if not is_image(Path(f"{stem}{suffix}")):
        raise LabelStudioError(
            f"task {task['id']}: its image is {shown(address)}, which is of no format that is read; delete the task, or "
            "add the image in another format"
        )
    return f"{task['id']}-{stem}{suffix}"


def _path_of(address: str) -> str:
    """The path in an address of an image."""
    if address.startswith("s3://"):
        return address
    url = urlsplit(address)
    return unquote(url.query.removeprefix("d=")) if url.query.startswith("d=") else unquote(url.path)


def _fetch_image(client: LabelStudioClient, task: dict[str, Any], name: str, folder: OutputFolder) -> bool:
    """Fetch the image of a task unless it is there; returns whether it was fetched."""
    expected, path = task["data"].get("sha256"), folder.path / name
    if path.is_file() and (expected is None or content_hash(path) == expected):
        return False
    with folder.write(name) as temporary:
        _download(client, task, temporary)
        if expected is not None and (digest := sha256(temporary.read_bytes()).hexdigest()) != expected:
            raise LabelStudioError(
                f"task {task['id']}: its image has sha256 {digest[:12]}, must be {str(expected)[:12]}; the image was replaced "
                "after it was suggested; delete the task, and suggest the image again"
            )
    return True


def _download(client: LabelStudioClient, task: dict[str, Any], path: Path) -> None:
    address = str(task["data"]["image"])
    if address.startswith("s3://"):
        parent, _, key = address.rpartition("/")
        open_store(parent).get(key, path)
        return
    if address.startswith(f"{client.url}/"):
        address = address.removeprefix(client.url)
    if not address.startswith("/"):
        raise LabelStudioError(
            f"task {task['id']}: its image is at {shown(address)}; only images of Label Studio itself and s3:// are fetched"
        )
    path.write_bytes(client.download(address))


def _local_task(task: dict[str, Any], name: str, project: str) -> dict[str, Any]:
    """The task with the image's name in the folder, and where it came from."""
    data = {**task["data"], "image": name, "address": task["data"]["image"], "project": project}
    return {**task, "data": data}


def _write_labels(folder: OutputFolder, tasks: Sequence[dict[str, Any]]) -> None:
    with folder.write(LABELS_FILE) as temporary:
        temporary.write_text(json.dumps(tasks, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
