"""``adjobs label``: which images to label, and their way to Label Studio and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adjobs.cli.label import text
from adjobs.cli.output import EXIT_PROBLEMS, VerbResult, verb
from adjobs.errors import JobError

if TYPE_CHECKING:
    from adjobs.labelling.client import LabelStudioClient

_KEY_HELP = "File of mode 0600 with your access token of Label Studio (Account & Settings)."


@click.group(short_help="Choose images to label, and fetch labels from Label Studio.")
def command() -> None:
    """Choose images to label, send them to Label Studio, and fetch the labels.

    \b
    adjobs label suggest models:/line-3@champion recent/ --out tasks.json
    adjobs label suggest models:/line-3@champion s3://line/recent --count 50 \\
        --url http://labels:8080 --api-key-file key.txt --project line-3
    adjobs label fetch --url http://labels:8080 --api-key-file key.txt \\
        --project line-3 --out inbox
    """  # noqa: D301 (click looks for the control character, not for a backslash)


@command.command(short_help="Choose images to label.")
@click.argument("model", metavar="RUN_OR_URI")
@click.argument("images", nargs=-1, required=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default="tasks.json",
    show_default=True,
    help="File for the tasks; the labelling configuration is written beside it, as .xml.",
)
@click.option("--count", type=click.IntRange(1, 100_000), default=20, show_default=True, help="Number of images, at most.")
@click.option("--near-threshold", type=float, default=1.0, show_default=True, help="Weight of being near the threshold.")
@click.option("--novelty", type=float, default=0.5, show_default=True, help="Weight of being unlike the training images.")
@click.option(
    "--diversity", type=float, default=1.0, show_default=True, help="Weight of being unlike the other images that are chosen."
)
@click.option("--follow-links", is_flag=True, help="Follow symbolic links that lead out of the folders.")
@click.option(
    "--image-root",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder that Label Studio serves files from (LOCAL_FILES_DOCUMENT_ROOT).  [default: the one above the images; "
    "with --url they are uploaded]",
)
@click.option("--url", help="Address of Label Studio; the tasks are added to a project of it.")
@click.option("--api-key-file", type=click.Path(path_type=Path), help=_KEY_HELP)
@click.option("--project", help="Title of the project; it is made if there is none.")
@verb
def suggest(
    model: str,
    images: tuple[str, ...],
    out: Path,
    image_root: Path | None,
    url: str | None,
    api_key_file: Path | None,
    project: str | None,
    **options: Any,
) -> VerbResult:
    """Choose images to label: near the threshold of a model, unlike its training images, and unlike each other.

    IMAGES are files, folders, patterns, s3:// addresses or text files (.txt) with one of these in each line. Images that repeat a
    labelled one of the model's data set, by content or nearly, are left out. Each task says why its image was chosen, and shows
    the decision and the regions of the model as a prediction to correct. An image that the project has already is not added
    again. Exit status 1 when an image could not be read or scored.
    """
    from adjobs.config.environment import load_settings
    from adjobs.labelling.handover import Destination, hand_over, prepare
    from adjobs.labelling.suggest import SuggestOptions
    from adjobs.labelling.suggest import suggest as choose

    destination = None
    if url or api_key_file or project:
        destination = Destination(*_connection(url, api_key_file, project))
    chosen, target = SuggestOptions(**options), prepare(images, out, image_root, destination)
    result = choose(model, images, load_settings(), chosen, progress=True)
    handed_over = hand_over(result, target, image_root, destination)
    document = {**result.to_dict(), "out": str(out), **handed_over.to_dict()}
    return document, text.suggestions(result, handed_over, out), EXIT_PROBLEMS if result.failures else 0


@command.command(short_help="Fetch finished annotations with their images.")
@click.option("--url", required=True, help="Address of Label Studio.")
@click.option("--api-key-file", required=True, type=click.Path(path_type=Path), help=_KEY_HELP)
@click.option("--project", required=True, help="Title of the project.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default="inbox",
    show_default=True,
    help="Folder for images and labels, one for each project.",
)
@verb
def fetch(url: str, api_key_file: Path, project: str, out: Path) -> VerbResult:
    """Fetch the finished annotations of a project, with their images, into a folder.

    The folder can be read as a data set: adjobs data check. Run again, the command fetches what is new and brings the labels up
    to date. Tasks that were skipped are left out.
    """
    from adjobs.config.environment import load_settings

    load_settings()  # for images in S3

    from adjobs.labelling.inbox import fetch_annotations

    client, title = _connection(url, api_key_file, project)
    result = fetch_annotations(client, title, out)
    return result, text.fetched(result)


def _connection(url: str | None, key_file: Path | None, project: str | None) -> tuple[LabelStudioClient, str]:
    from adjobs.labelling.client import LabelStudioClient, read_key

    if not (url and key_file and project):
        given = {"--url": url, "--api-key-file": key_file, "--project": project}
        missing = ", ".join(name for name, value in given.items() if not value)
        raise JobError(f"{missing}: missing; Label Studio takes --url, --api-key-file and --project together")
    return LabelStudioClient(url, read_key(key_file)), project
