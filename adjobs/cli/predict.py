"""``adjobs predict``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adjobs.cli.output import EXIT_PROBLEMS, table, verb
from adjobs.errors import JobError, Stopped, printable
from adjobs.inference.engine_contract import ENGINES

if TYPE_CHECKING:
    from adjobs.inference.inputs import Inputs
    from adjobs.jobs.predict import BatchResult, PredictOptions

MAX_SHOWN = 1000
"""Images up to which all lines are printed; of more they are in the file alone."""

_MAX_FAILURES = 20  # that are printed of more images


@click.command()
@click.argument("images", nargs=-1, required=True)
@click.option(
    "--model",
    required=True,
    metavar="RUN_OR_URI",
    help="A run's id, its first digits or its name, models:/name/version, models:/name@alias, models:/m-…, or a folder that "
    "holds a detector.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default="predictions",
    show_default=True,
    help="Folder for overlays, predictions.jsonl and index.html.",
)
@click.option(
    "--format",
    type=click.Choice(["jsonl", "parquet"]),
    default="jsonl",
    show_default=True,
    help="parquet writes predictions.parquet at the end, from the lines of predictions.jsonl.",
)
@click.option("--no-overlays", is_flag=True, help="Draw no anomaly maps over the images.")
@click.option(
    "--resume",
    is_flag=True,
    help="Keep what the folder has of the same model: only images without a prediction are predicted.",
)
@click.option(
    "--engine",
    type=click.Choice(ENGINES),
    default="auto",
    show_default=True,
    help="What computes: PyTorch; OpenVINO, compiled for this processor in about ten seconds; or PyTorch for few images and "
    "OpenVINO, where it is installed, for many.",
)
@click.option(
    "--backend",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="This process, or a Ray cluster (or a local Ray if none is configured).",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Processes of --backend ray; by default one for each GPU, or for each node where there are none.",
)
@click.option("--follow-links", is_flag=True, help="Follow symbolic links that lead out of the folders.")
@verb
def command(
    images: tuple[str, ...], model: str, out: Path, follow_links: bool, no_overlays: bool, **choices: Any
) -> tuple[dict[str, Any], str, int]:
    """Score images, or folders of images, with a trained detector.

    IMAGES are files, folders, quoted patterns, s3:// addresses of images or prefixes, also with wildcards, and text files (.txt)
    that list files, folders and addresses. Writes one JSON line for each image to predictions.jsonl, an overlay of the anomaly
    map, and index.html: the overlays on a page, beside the labels that a data set or the names of folders give to the images.
    Hidden files and results of earlier predictions in the folders are left out, and links out of the folders are not followed.
    Exit status 1 when an image could not be predicted; the others are predicted all the same.

    \b
    adjobs predict --model RUN images/ more/*.png
    adjobs predict --model models:/line@champion 's3://bucket/shift-3/**/*.png' --no-overlays --format parquet --resume
    """  # noqa: D301 (click looks for the control character, not for a backslash)
    if choices["workers"] and choices["backend"] != "ray":
        raise JobError("--workers: is for --backend ray; add that, or leave --workers out")

    from adjobs.config.environment import load_settings
    from adjobs.inference.inputs import find_inputs
    from adjobs.inference.truth import find_truth
    from adjobs.jobs.predict import PredictOptions, predict_batch

    settings = load_settings()
    inputs = find_inputs(images, follow_links=follow_links)
    _warn_of_links(inputs)
    truth = find_truth(images, inputs.names, settings.cache)
    options: PredictOptions = PredictOptions(overlays=not no_overlays, truth=truth, **choices)
    with _Display() as display:
        try:
            result = predict_batch(model, inputs.names, out, settings, options, display)
        except KeyboardInterrupt as error:
            done = f"{display.done} of {len(inputs.names)} images"
            raise Stopped(f"stopped after {done}; go on with the same command and --resume") from error
    if display.first_warning:
        click.echo(f"warning: {result.warnings} of {result.images} images, first {display.first_warning}", err=True)
    document = result.to_dict() | {"predictions": display.lines if result.images <= MAX_SHOWN else None}
    return document, _describe(result, display.lines), EXIT_PROBLEMS if result.failed else 0


class _Display:
    """A bar on standard error, where that is a terminal, and the first lines."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.first_warning = ""
        self.done = 0
        self._bar: Any = None

    def __enter__(self) -> _Display:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def started(self, total: int, kept: int) -> None:
        from tqdm import tqdm

        self.done = kept
        self._bar = tqdm(total=total, initial=kept, unit="image", disable=None, dynamic_ncols=True)

    def predicted(self, line: dict[str, Any]) -> None:
        self.done += 1
        self._bar.update()
        if len(self.lines) < MAX_SHOWN:
            self.lines.append(line)
        if "warning" in line and not self.first_warning:
            self.first_warning = printable(f"{line['path']}: {line['warning']}")


def _warn_of_links(inputs: Inputs) -> None:
    links = inputs.outside_links
    if links:
        first = printable(f"{links[0]} -> {os.path.realpath(links[0])}")
        message = f"{len(links)} links lead out of the folders and are not followed, first {first}; --follow-links follows them"
        click.echo(f"warning: {message}", err=True)


def _describe(result: BatchResult, lines: list[dict[str, Any]]) -> str:
    """The result for a person."""
    failures = [f"not predicted: {line['error']}" for line in lines if "error" in line]
    if result.images <= MAX_SHOWN:
        rows = [
            [line["path"], line["decision"], f"{line['score']:.5g}", f"{line['milliseconds']:.1f}"]
            for line in lines
            if "score" in line
        ]
        text = [table(rows, ["image", "decision", "score", "ms"]), *failures] if rows or failures else []
    else:
        text = [*failures[:_MAX_FAILURES], *(["…"] if result.failed > _MAX_FAILURES else [])]
    kept = f", {result.kept} kept from before" if result.kept else ""
    speed = "" if result.images_per_s is None else f", {result.images_per_s:.3g} images/s"
    predicted = result.images - result.kept
    text.append(f"{predicted} predicted ({result.anomalous} anomalous, {result.failed} failed){kept}{speed}")
    text += [sentence] if (sentence := result.labelled.sentence()) else []
    text.append(
        f"threshold {result.threshold:.6g}; results in {result.out}, {Path(result.file).name}; to see them, open {result.page}"
    )
    return "\n".join(text)
