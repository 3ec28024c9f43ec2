"""Put tasks into a project of Label Studio, each image once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from adjobs.errors import LabelStudioError, LabelStudioUnavailableError, shown
from adjobs.labelling.client import WAITS, LabelStudioClient
from adjobs.labelling.tasks import missing_controls

BATCH = 20  # tasks that are added at a time: what was added before a failure is not uploaded again
_NO_CONFIG = ("", "<View></View>", "<View/>")  # of a project that was made in the browser and not set up


@dataclass(frozen=True)
class NewTask:
    """A task, and the image to upload for it; None where Label Studio reaches the image by the task's address."""

    task: dict[str, Any]
    upload: Path | None = None


@dataclass(frozen=True)
class ImportResult:
    """What became of tasks.

    Attributes:
        project: its number.
        address: of its page.
        is_new: whether the project was made.
        added: number of tasks that were added.
        present: number of tasks whose images the project had already.
    """

    project: int
    address: str
    is_new: bool
    added: int
    present: int

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


def import_tasks(
    client: LabelStudioClient, title: str, config: str, tasks: Sequence[NewTask], local_folder: Path | None = None
) -> ImportResult:
    """Add tasks to a project, which is made if there is none of this title; an image that it has already is left out.

    Stopped at any time, it can be run again. Two at the same time may add an image twice.

    Args:
        client: of the server.
        title: of the project.
        config: labelling configuration of a new project.
        tasks: to add, in order.
        local_folder: folder of the server that Label Studio reads the images from; None: it reads none itself.

    Raises:
        LabelStudioError: the server refuses or does not answer, or the project has another labelling configuration.
    """
    project, is_new = _open_project(client, title, config)
    number = int(project["id"])
    if local_folder is not None:
        _allow_local_files(client, number, local_folder)
    total = len(tasks)
    missing = _without_present(client, number, tasks)
    present = total - len(missing)
    for start in range(0, len(missing), BATCH):
        _add(client, number, missing[start : start + BATCH])
    return ImportResult(number, f"{client.url}/projects/{number}", is_new, len(missing), present)


def find_project(client: LabelStudioClient, title: str) -> dict[str, Any] | None:
    """The project of this title; None if there is none.

    Raises:
        LabelStudioError: there are several, or the server does not answer.
    """
    projects = [project for project in client.projects() if project["title"] == title]
    if len(projects) > 1:
        numbers = ", ".join(str(project["id"]) for project in projects)
        raise LabelStudioError(f"project {shown(title)}: {len(projects)} projects have this title ({numbers}); rename the others")
    return projects[0] if projects else None


def check_project(client: LabelStudioClient, title: str) -> dict[str, Any] | None:
    """The project of this title, checked to take the tasks; None if there is none.

    Raises:
        LabelStudioError: it has another labelling configuration, there are several, or the server does not answer.
    """
    project = find_project(client, title)
    if project is None or project["label_config"].strip() in _NO_CONFIG:
        return project
    missing = missing_controls(project["label_config"])
    if missing:
        raise LabelStudioError(
            f"project {shown(title)}: has another labelling configuration, without {', '.join(missing)}; "
            "choose another project, or add this to its settings"
        )
    return project


def _open_project(client: LabelStudioClient, title: str, config: str) -> tuple[dict[str, Any], bool]:
    """The project, ready for the tasks, and whether it was made."""
    project = check_project(client, title)
    if project is None:
        return _create(client, title, config), True
    if project["label_config"].strip() in _NO_CONFIG:
        return client.set_config(int(project["id"]), config), False
    return project, False


def _create(client: LabelStudioClient, title: str, config: str) -> dict[str, Any]:
    for _ in WAITS:
        try:
            return client.create_project(title, config)
        except LabelStudioUnavailableError:  # it may have been made
            project = find_project(client, title)
            if project is not None:
                return project
    return client.create_project(title, config)


def _add(client: LabelStudioClient, project: int, tasks: Sequence[NewTask]) -> None:
    """Add tasks; after a lost answer those that the project has are not added again."""
    remaining = list(tasks)
    for _ in WAITS:
        try:
            client.import_tasks(project, [_uploaded(client, project, new) for new in remaining])
        except LabelStudioUnavailableError:
            remaining = _without_present(client, project, remaining)
        else:
            return
        if not remaining:
            return
    client.import_tasks(project, [_uploaded(client, project, new) for new in remaining])


def _without_present(client: LabelStudioClient, project: int, tasks: Sequence[NewTask]) -> list[NewTask]:
    """The tasks whose images the project does not have, by content or by address, nor an earlier one of them."""
    known: set[str] = set()
    for data in client.task_data(project):
        known.update(str(data[key]) for key in ("sha256", "image") if data.get(key))
    missing = []
    for new in tasks:
        data = new.task["data"]
        keys = {data["sha256"], *([] if new.upload else [data["image"]])}
        if not keys & known:
            missing.append(new)
            known |= keys
    return missing


def _uploaded(client: LabelStudioClient, project: int, new: NewTask) -> dict[str, Any]:
    if new.upload is None:
        return new.task
    return {**new.task, "data": {**new.task["data"], "image": client.upload(project, new.upload)}}


def _allow_local_files(client: LabelStudioClient, project: int, folder: Path) -> None:
    """Make the server show the files of a folder in the project, unless it does."""
    path = os.path.abspath(folder)  # noqa: PTH100 (a path of the server: links are its own matter)
    if any(Path(path).is_relative_to(storage) for storage in client.local_storages(project)):
        return
    try:
        client.add_local_storage(project, path)
    except LabelStudioUnavailableError:
        raise
    except LabelStudioError as error:
        raise LabelStudioError(
            f"{error}; its files are served if it runs with LOCAL_FILES_SERVING_ENABLED=true and a LOCAL_FILES_DOCUMENT_ROOT "
            "above the images; without --image-root the images are uploaded"
        ) from error
