"""Hand suggestions over to Label Studio: a file of tasks, and where a server is named, a project of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from adjobs.errors import DataError
from adjobs.labelling.client import LabelStudioClient
from adjobs.labelling.images import ImageSource
from adjobs.labelling.project import ImportResult, NewTask, check_project, import_tasks
from adjobs.labelling.suggest import SuggestResult
from adjobs.labelling.tasks import check_config_path, is_task_file, label_config, local_address, make_task, unshown, write_tasks
from adjobs.storage.outputs import output_file


class Destination(NamedTuple):
    """A project of a Label Studio, by its title."""

    client: LabelStudioClient
    project: str


@dataclass(frozen=True)
class Handover:
    """Where the tasks are.

    Attributes:
        config: the labelling configuration.
        image_root: folder that Label Studio must serve for the tasks in the file; None if all are in buckets or uploaded.
        n_unshown: number of images that browsers do not show.
        imported: what became of the tasks in a project; None without one.
    """

    config: Path
    image_root: Path | None
    n_unshown: int
    imported: ImportResult | None

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "config": str(self.config),
            "image_root": None if self.image_root is None else str(self.image_root),
            "project": None if self.imported is None else self.imported.to_dict(),
        }


def prepare(images: Sequence[str], out: Path, image_root: Path | None, destination: Destination | None) -> Path:
    """Check what can be checked before images are scored; returns the file for tasks.

    Raises:
        StorageError: the file, or the labelling configuration beside it, exists and is something else.
        DataError: an image is not in ``image_root``.
        LabelStudioError: the server does not answer or refuses, or the project has another labelling configuration.
    """
    target = output_file(out, "a file of tasks", is_task_file)
    check_config_path(target)
    for name in images:
        if image_root and not name.startswith("s3://"):
            local_address(Path(name), image_root)
    if destination is not None:
        check_project(destination.client, destination.project)
    return target


def hand_over(
    result: SuggestResult, target: Path, image_root: Path | None = None, destination: Destination | None = None
) -> Handover:
    """Write the tasks of suggestions to a file, and add them to a project of Label Studio.

    Args:
        result: with the suggestions, in order.
        target: the file, from :func:`prepare`.
        image_root: folder that Label Studio serves files from. None: that of the images, and for a project they are uploaded.
        destination: the project, or None.

    Raises:
        DataError: an image is not in ``image_root``.
        StorageError: the files cannot be written.
        LabelStudioError: the server refuses or does not answer; the files have been written.
    """
    local = [suggestion.source for suggestion in result.suggestions if suggestion.source.uri is None]
    folder = _common_folder(local) if local else None
    root = image_root or (folder and folder.parent)  # Label Studio serves no files that lie in its root directly
    if image_root and folder and folder == image_root.absolute() and destination:
        raise DataError(
            f"--image-root {image_root}: Label Studio shows no files that lie in it directly; move the images into a folder in it"
        )
    tasks = [
        make_task(suggestion, suggestion.source.uri or local_address(suggestion.source.path, root or Path("/")), result)
        for suggestion in result.suggestions
    ]
    config = label_config(result.defects)
    config_path = write_tasks(tasks, config, target)
    imported = None
    if destination is not None:
        _refuse_uploads([] if image_root else local)
        uploads = [None if item.source.uri or image_root else item.source.path for item in result.suggestions]
        new = [NewTask(task, path) for task, path in zip(tasks, uploads, strict=True)]
        imported = import_tasks(*destination, config, new, folder if image_root else None)
    return Handover(config_path, root if local else None, len(unshown([item.source for item in result.suggestions])), imported)


def _refuse_uploads(sources: list[ImageSource]) -> None:
    """Refuse images that Label Studio does not take: it takes none that browsers do not show."""
    refused = unshown(sources)
    if refused:
        raise DataError(
            f"{refused[0].name}: browsers do not show images such as this (and {len(refused) - 1} more), and Label Studio takes "
            "no upload of them; suggest copies in PNG, or give --image-root"
        )


def _common_folder(sources: list[ImageSource]) -> Path:
    return Path(os.path.commonpath([source.path.absolute().parent for source in sources]))
