"""``adjobs export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from adjobs.cli.output import table, verb
from adjobs.inference.engine_contract import FORMATS

if TYPE_CHECKING:
    from adjobs.inference.engine_contract import GraphFormat
    from adjobs.inference.export.export import ExportResult


@click.command()
@click.argument("model")
@click.option("--format", required=True, type=click.Choice(FORMATS), help="Which runtime computes the model.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for the model and its manifest.")
@click.option(
    "--images",
    multiple=True,
    metavar="PATH",
    help="Images, or folders of images, to compare the model with PyTorch on; can be repeated. Without it: validation images of "
    "the model's run, half of them those nearest to the threshold.",
)
@click.option("--count", type=click.IntRange(1), default=32, show_default=True, help="Number of images to compare on, at most.")
@verb
def command(model: str, format: GraphFormat, out: Path, images: tuple[str, ...], count: int) -> tuple[ExportResult, str]:
    """Export a detector for ONNX Runtime or OpenVINO.

    MODEL is a run id, a models:/ URI or a detector's folder. Resize, network and thresholds become one model, which is compared
    with PyTorch on real images; if a score, a map or a decision differs, nothing is written. 'adjobs predict --model FOLDER' and
    adjobs.load_detector take the folder, also where PyTorch is not installed.
    """
    from adjobs.api import export

    result = export(model, out, format=format, images=images, count=count)
    return result, describe(result)


def describe(result: ExportResult) -> str:
    """The result for a person."""
    agreement, speed = result.agreement, result.speed
    changed = agreement.changed_decisions
    decisions = (
        "all equal" if not changed else f"{agreement.images - changed} equal, {changed} on the threshold, where rounding decides"
    )
    of_map = "none" if agreement.map_difference is None else f"{agreement.map_difference:.1e} of the range of the maps"
    rows = [
        ["compared on", f"{agreement.images} images"],
        ["decisions", decisions],
        ["score", f"differs by at most {agreement.score_difference:.1e} of the largest score"],
        ["resized inside", f"differs by at most {agreement.resized_score_difference:.1e}"],
        ["anomaly map", of_map if of_map == "none" else f"differs by at most {of_map}"],
        [
            "one image",
            f"{speed.exported:.1f} ms, by PyTorch {speed.torch:.1f} ms ({speed.torch / speed.exported:.1f} times faster)",
        ],
        ["model", f"{result.megabytes:.1f} MB in {result.folder}"],
        ["use it", f"adjobs predict --model {result.folder} IMAGES"],
    ]
    return table(rows, ["exported", result.format])
