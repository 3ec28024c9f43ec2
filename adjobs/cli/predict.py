"""``adjobs predict``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from adjobs.cli.output import EXIT_PROBLEMS, table, verb
from adjobs.errors import printable
from adjobs.inference.engine_contract import ENGINES, EngineName


@click.command()
@click.argument("images", nargs=-1, required=True)
@click.option(
    "--model",
    required=True,
    metavar="RUN_OR_URI",
    help="A run id, models:/name/version, models:/name@alias, models:/m-…, or a folder that holds a detector.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default="predictions",
    show_default=True,
    help="Folder for overlays and predictions.jsonl.",
)
@click.option(
    "--engine",
    type=click.Choice(ENGINES),
    default="auto",
    show_default=True,
    help="What computes: PyTorch; OpenVINO, compiled for this processor in about ten seconds; or PyTorch for few images and "
    "OpenVINO, where it is installed, for many.",
)
@click.option("--follow-links", is_flag=True, help="Follow symbolic links that lead out of the folders.")
@verb
def command(
    images: tuple[str, ...], model: str, out: Path, engine: EngineName, follow_links: bool
) -> tuple[dict[str, Any], str, int]:
    """Score images, or folders of images, with a trained detector.

    Writes an overlay of the anomaly map for each image and one JSON line each to predictions.jsonl. Hidden files and results of
    earlier predictions in the folders are left out, and links out of the folders are not followed. Exit status 1 when an image
    could not be predicted; the others are predicted all the same.
    """
    from adjobs.api import load_detector
    from adjobs.inference.files import LINES_FILE, find_images, open_output, predict_files

    paths, links = find_images(images, follow_links=follow_links)
    if links:
        first = printable(f"{links[0]} -> {os.path.realpath(links[0])}")
        message = f"{len(links)} links lead out of the folders and are not followed, first {first}; --follow-links follows them"
        click.echo(f"warning: {message}", err=True)
    out = open_output(paths, out).path  # before the detector is loaded
    detector = load_detector(model, engine=engine)
    lines = []
    with detector.throughput_mode():
        for line in predict_files(detector, paths, out):
            lines.append(line)
            if sys.stderr.isatty():
                click.echo(f"\r{len(lines)} of {len(paths)}", nl=len(lines) == len(paths), err=True)
    unusual = [line for line in lines if "warning" in line]
    if unusual:
        first = printable(f"{unusual[0]['path']}: {unusual[0]['warning']}")
        click.echo(f"warning: {len(unusual)} of {len(lines)} images, first {first}", err=True)
    failed = sum("error" in line for line in lines)
    rows = [
        [line["path"], line["decision"], f"{line['score']:.5g}", f"{line['milliseconds']:.1f}"]
        for line in lines
        if "score" in line
    ]
    text = table(rows, ["image", "decision", "score", "ms"])
    text += "".join(f"\nnot predicted: {line['error']}" for line in lines if "error" in line)
    text += f"\nthreshold {detector.threshold:.6g}; overlays and {LINES_FILE} in {out}"
    result = {"model": model, "threshold": detector.threshold, "out": str(out), "failed": failed, "predictions": lines}
    return result, text, EXIT_PROBLEMS if failed else 0
